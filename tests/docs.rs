//! What is written for readers: links and anchors lead somewhere, blocks say what they are, every page of `docs/` is in its index, a
//! translation has its original's headings and commands, and each command of the program is told of. Whether the commands of the
//! README and the quick start work is tried by tests/docs/commands.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Component, Path, PathBuf};
use std::process::Command;

use pulldown_cmark::{CodeBlockKind, Event, HeadingLevel, Options, Parser, Tag, TagEnd};

const ROOT: &str = env!("CARGO_MANIFEST_DIR");

/// Pages whose ```sh blocks a reader types, one after another, with their translations.
const TYPED: [(&str, &str); 2] =
    [("README.md", "docs/zh/README.md"), ("docs/quick-start.md", "docs/zh/quick-start.md")];

/// What a block of these may be.
const KINDS: [&str; 7] = ["sh", "text", "toml", "xml", "sql", "json", "ini"];

/// One page, as a code host renders it.
#[derive(Default)]
struct Page {
    headings: Vec<(HeadingLevel, String)>,
    /// What `<a id="...">` names.
    named: Vec<String>,
    /// Line and target of each link and image.
    links: Vec<(usize, String)>,
    /// Line, info string and text of each fenced block.
    blocks: Vec<(usize, String, String)>,
}

impl Page {
    fn read(text: &str) -> Self {
        let mut page = Page::default();
        let (mut heading, mut block) = (None::<String>, None::<String>);
        let tables = Options::ENABLE_TABLES | Options::ENABLE_STRIKETHROUGH | Options::ENABLE_TASKLISTS;
        for (event, at) in Parser::new_ext(text, tables | Options::ENABLE_FOOTNOTES).into_offset_iter() {
            let line = 1 + text[..at.start].matches('\n').count();
            match event {
                Event::Start(Tag::Heading { .. }) => heading = Some(String::new()),
                Event::End(TagEnd::Heading(level)) => {
                    page.headings.push((level, heading.take().expect("it has begun")));
                }
                Event::Start(Tag::Link { dest_url, .. } | Tag::Image { dest_url, .. }) => {
                    page.links.push((line, dest_url.into_string()));
                }
                Event::Start(Tag::CodeBlock(CodeBlockKind::Fenced(info))) => {
                    page.blocks.push((line, info.into_string(), String::new()));
                    block = Some(String::new());
                }
                Event::End(TagEnd::CodeBlock) => {
                    if let Some(text) = block.take() {
                        page.blocks.last_mut().expect("it has begun").2 = text;
                    }
                }
                Event::InlineHtml(html) | Event::Html(html) => {
                    let id = html.split_once("<a id=\"").and_then(|(_, rest)| rest.split_once('"'));
                    page.named.extend(id.map(|(id, _)| id.to_owned()));
                }
                Event::Text(text) | Event::Code(text) => {
                    if let Some(into) = block.as_mut().or(heading.as_mut()) {
                        into.push_str(&text);
                    }
                }
                _ => {}
            }
        }
        page
    }

    /// Its anchors: those that are named, and those of its headings, as a code host makes them: one that comes again has a number.
    fn anchors(&self) -> BTreeSet<String> {
        let mut seen = BTreeMap::new();
        let of = |(_, heading): &(HeadingLevel, String)| {
            let anchor = anchor(heading);
            let times: &mut usize = seen.entry(anchor.clone()).or_default();
            *times += 1;
            if *times == 1 { anchor } else { format!("{anchor}-{}", *times - 1) }
        };
        self.headings.iter().map(of).chain(self.named.iter().cloned()).collect()
    }

    fn typed(&self) -> Vec<(&str, &str)> {
        let all = self.blocks.iter().map(|(_, info, text)| (info.as_str(), text.as_str()));
        all.filter(|(info, _)| kind(info) == "sh").collect()
    }
}

fn anchor(heading: &str) -> String {
    let kept = heading.to_lowercase().replace(' ', "-");
    kept.chars().filter(|c| c.is_alphanumeric() || matches!(c, '-' | '_')).collect()
}

fn kind(info: &str) -> &str {
    info.split_whitespace().next().unwrap_or_default()
}

/// All pages of the repository by their paths in it.
fn pages() -> BTreeMap<String, Page> {
    let (mut folders, mut pages) = (vec![PathBuf::from(ROOT)], BTreeMap::new());
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).expect("a folder") {
            let path = entry.expect("an entry").path();
            let name = path.file_name().expect("a name").to_string_lossy().into_owned();
            if path.is_dir() {
                folders.extend((!matches!(&name[..], "target" | "node_modules" | ".git")).then_some(path));
            } else if name.ends_with(".md") {
                let own = path.strip_prefix(ROOT).expect("in the repository").to_string_lossy().into_owned();
                pages.insert(own, Page::read(&fs::read_to_string(&path).expect("text")));
            }
        }
    }
    assert!(pages.contains_key("README.md") && pages.contains_key("docs/README.md"));
    pages
}

/// Where a relative target leads, seen from a page: a path in the repository, if it stays there.
fn leads_to(page: &str, target: &str) -> Option<String> {
    let mut parts = Vec::new();
    let from = Path::new(page).parent().expect("a folder");
    for part in from.join(target).components() {
        match part {
            Component::Normal(name) => parts.push(name.to_str()?.to_owned()),
            Component::ParentDir => drop(parts.pop()?),
            Component::CurDir => {}
            Component::RootDir | Component::Prefix(_) => return None,
        }
    }
    Some(parts.join("/"))
}

/// Why a link of that page leads nowhere; `None`: it does not.
fn broken(page: &str, target: &str, pages: &BTreeMap<String, Page>) -> Option<String> {
    if let Some((scheme, rest)) = target.split_once(':').filter(|(scheme, _)| !scheme.contains(['/', '#', '.'])) {
        let host = rest.trim_start_matches("//").split(['/', ':']).next().unwrap_or_default();
        let is_here = matches!(host, "localhost" | "" | "[") || host.starts_with("127.");
        return match scheme {
            "http" | "https" if !is_here => None,
            _ => Some("leads to this machine, or nowhere for a reader".to_owned()),
        };
    }
    let (path, wanted) = target.split_once('#').unwrap_or((target, ""));
    let file = match path {
        "" => page.to_owned(),
        path => match leads_to(page, path) {
            Some(file) => file,
            None => return Some("leads out of the repository: give a relative path".to_owned()),
        },
    };
    if !Path::new(ROOT).join(&file).exists() {
        return Some(format!("there is no {file}"));
    }
    let is_there = wanted.is_empty() || pages.get(&file).is_some_and(|page| page.anchors().contains(wanted));
    (!is_there).then(|| format!("{file} has nothing called #{wanted}"))
}

fn none(faults: &[String]) {
    assert!(faults.is_empty(), "\n{}", faults.join("\n"));
}

#[test]
fn every_link_leads_somewhere() {
    let pages = pages();
    let mut faults = Vec::new();
    for (path, page) in &pages {
        let all = page.links.iter();
        faults.extend(all.filter_map(|(line, target)| {
            broken(path, target, &pages).map(|why| format!("{path}:{line}: ({target}) {why}"))
        }));
    }
    none(&faults);
}

#[test]
fn every_page_of_docs_is_in_an_index() {
    let pages = pages();
    let leads = |index: &str, to: &str| {
        pages.get(index).is_some_and(|page| {
            let targets = page.links.iter().map(|(_, target)| target.split('#').next().unwrap_or_default());
            targets.filter(|target| !target.is_empty()).any(|target| leads_to(index, target).as_deref() == Some(to))
        })
    };
    let mut faults = Vec::new();
    for path in pages.keys().filter(|path| path.starts_with("docs/") && *path != "docs/README.md") {
        let own = format!("{}/README.md", Path::new(path).parent().expect("a folder").display());
        let is_by_own = || own != *path && leads("docs/README.md", &own) && leads(&own, path);
        if !(leads("docs/README.md", path) || is_by_own()) {
            faults.push(format!("{path}: neither docs/README.md nor the README.md beside it leads there"));
        }
    }
    none(&faults);
}

#[test]
fn no_heading_comes_twice_in_a_page() {
    let mut faults = Vec::new();
    for (path, page) in pages() {
        let mut seen = BTreeSet::new();
        for (_, heading) in page.headings {
            let anchor = anchor(&heading);
            if !seen.insert(anchor) {
                faults.push(format!("{path}: {heading:?} comes twice: a link can't tell which"));
            }
        }
    }
    none(&faults);
}

#[test]
fn every_block_says_what_it_is() {
    let typed: BTreeSet<_> = TYPED.iter().flat_map(|(page, translated)| [*page, *translated]).collect();
    let mut faults = Vec::new();
    for (path, page) in pages() {
        for (line, info, _) in page.blocks {
            if info.is_empty() {
                faults.push(format!("{path}:{line}: a block without a kind: ```sh, ```text, ```toml..."));
            }
            let words: Vec<_> = info.split_whitespace().collect();
            let is_known = match words[..] {
                [] | ["sh", "stays"] => true,
                ["sh", "stays", until] => until.starts_with("until=http://"),
                [kind] => KINDS.contains(&kind),
                _ => false,
            };
            if typed.contains(path.as_str()) && !is_known {
                faults.push(format!("{path}:{line}: {info:?}: give one of {KINDS:?}, or `sh stays [until=URL]`"));
            }
        }
    }
    none(&faults);
}

#[test]
fn translations_have_the_headings_and_commands_of_their_originals() {
    let pages = pages();
    let mut faults = Vec::new();
    for (original, translated) in TYPED {
        let [one, other] = [original, translated].map(|path| pages.get(path).expect("a page"));
        let levels = |page: &Page| page.headings.iter().map(|(level, _)| *level).collect::<Vec<_>>();
        if levels(one) != levels(other) {
            faults.push(format!("{translated}: other headings than {original}: {:?}", other.headings));
        }
        let (typed, again) = (one.typed(), other.typed());
        assert!(!typed.is_empty(), "{original}");
        for nth in 0..typed.len().max(again.len()) {
            let [own, theirs] = [again.get(nth), typed.get(nth)];
            if own != theirs {
                faults.push(format!("{translated}: ```sh block {} is {own:?}, in {original} {theirs:?}", nth + 1));
            }
        }
    }
    let of_zh = pages.keys().filter(|path| path.starts_with("docs/zh/"));
    faults.extend(
        of_zh
            .filter(|path| !TYPED.iter().any(|(_, translated)| translated == path))
            .map(|path| format!("{path}: name its original in TYPED of tests/docs.rs")),
    );
    none(&faults);
}

#[test]
fn every_command_is_told_of() {
    let help = Command::new(env!("CARGO_BIN_EXE_tandem")).arg("--help").output().expect("it runs");
    let help = String::from_utf8(help.stdout).expect("text");
    let listed = help.split_once("Commands:\n").expect("a list of commands").1;
    let names: Vec<_> = listed
        .lines()
        .take_while(|line| !line.is_empty())
        .filter_map(|line| {
            // What goes on in the next line is further in.
            line.strip_prefix("  ").filter(|rest| !rest.starts_with(' '))?.split_whitespace().next()
        })
        .filter(|name| *name != "help")
        .collect();
    assert!(names.contains(&"run") && names.len() > 10, "{names:?}");
    let page = fs::read_to_string(Path::new(ROOT).join("docs/commands.md")).expect("it is there");
    let is_told = |name: &&str| {
        page.lines().any(|line| {
            line.strip_prefix("| `tandem ")
                .and_then(|rest| rest.strip_prefix(*name))
                .is_some_and(|rest| rest.starts_with(['`', ' ']))
        })
    };
    let untold: Vec<_> = names
        .iter()
        .filter(|name| !is_told(name))
        .map(|name| format!("docs/commands.md has no row `tandem {name}`"))
        .collect();
    none(&untold);
}

#[test]
fn anchors_are_those_of_a_code_host() {
    for (heading, expected) in [
        ("A call's story", "a-calls-story"),
        ("What is wrong now?", "what-is-wrong-now"),
        ("tandem list [SET]", "tandem-list-set"),
        ("408, 480 & co.", "408-480--co"),
        ("[set.probe.tcp]", "setprobetcp"),
        ("两个节点", "两个节点"),
    ] {
        assert_eq!(anchor(heading), expected);
    }
    let page =
        Page::read("# One\n## A `b` c\n## A b c\n\n<a id=\"x.y\"></a>[x](y.md) ![z](z.png)\n\n```sh stays\nls\n```\n");
    assert_eq!(page.anchors().into_iter().collect::<Vec<_>>(), ["a-b-c", "a-b-c-1", "one", "x.y"]);
    assert_eq!(page.links, [(5, "y.md".to_owned()), (5, "z.png".to_owned())]);
    assert_eq!(page.blocks, [(7, "sh stays".to_owned(), "ls\n".to_owned())]);
}
