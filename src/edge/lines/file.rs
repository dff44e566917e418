//! The file: whole lines only, set aside when it is full, opened anew when somebody else has moved it away.

use std::fs::{self, File, Metadata, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{FileExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use tracing::warn;

use super::{LinesConfig, Told};

/// No line is longer: a Call-ID is part of one message, and each byte of it becomes six at most.
const LONGEST_LINE: u64 = 1 << 20;

/// The file, whether it can be had now or not.
#[derive(Debug)]
pub(super) struct LinesFile {
    config: LinesConfig,
    /// What many lines are called.
    name: &'static str,
    /// What every line begins with.
    head: &'static str,
    open: Option<Open>,
    /// Of a file that can't be set aside.
    told: Told,
}

#[derive(Debug)]
struct Open {
    file: File,
    id: FileId,
    /// None of what is no plain file, as a pipe: it can't be full, cut or set aside.
    length: Option<u64>,
}

/// Device and inode.
type FileId = (u64, u64);

impl LinesFile {
    pub(super) fn new(config: &LinesConfig, name: &'static str, head: &'static str) -> Self {
        LinesFile { config: config.clone(), name, head, open: None, told: Told::default() }
    }

    pub(super) fn path(&self) -> &Path {
        &self.config.file
    }

    /// Appends whole lines. Tells how many bytes of them are in the file, of whole lines too, and what kept out the rest.
    pub(super) fn append(&mut self, lines: &[u8]) -> (usize, io::Result<()>) {
        let mut whole = 0;
        loop {
            let (more, result) = self.fill(&lines[whole..]);
            whole += more;
            if result.is_err() || whole == lines.len() {
                return (whole, result);
            }
        }
    }

    /// Appends the lines that the file has room for; none: it is set aside.
    fn fill(&mut self, lines: &[u8]) -> (usize, io::Result<()>) {
        let most = self.config.max_bytes;
        let length = match self.current() {
            Ok(open) => open.length,
            Err(fault) => return (0, Err(fault)),
        };
        let fitting = match (most, length) {
            (Some(most), Some(length)) => fitting(lines, length, most),
            (None, _) | (_, None) => lines.len(),
        };
        let lines = match fitting {
            0 if !lines.is_empty() => match self.set_aside() {
                Ok(()) => return (0, Ok(())),
                Err(cause) => {
                    if self.told.is_due() {
                        let (name, file) = (self.name, self.config.file.display());
                        warn!(%file, %cause, "{name} go on into a full file: it can't be renamed");
                    }
                    lines
                }
            },
            fitting => &lines[..fitting],
        };
        self.write(lines)
    }

    fn write(&mut self, lines: &[u8]) -> (usize, io::Result<()>) {
        let Some(open) = &self.open else { return (0, Ok(())) };
        let (written, result) = write(&open.file, lines);
        let whole = match result {
            Ok(()) => written,
            Err(_) => {
                let length = open.file.metadata().map(|now| now.len());
                // If that fails too, it is mended when the file is opened again.
                if let (Some(_), Ok(length)) = (open.length, length) {
                    let _ = mend(&open.file, length, self.head);
                }
                self.open = None;
                end_of_last_line(&lines[..written])
            }
        };
        (whole, result)
    }

    /// The file of that name, which may be another than before.
    fn current(&mut self) -> io::Result<&mut Open> {
        let there = match fs::metadata(&self.config.file) {
            Ok(there) => Some(there),
            Err(fault) if fault.kind() == io::ErrorKind::NotFound => None,
            Err(fault) => return Err(fault),
        };
        let open = match (self.open.take(), there) {
            (Some(open), Some(there)) if open.id == id(&there) => {
                Open { length: open.length.map(|_| there.len()), ..open }
            }
            (Some(_) | None, _) => Open::new(&self.config.file, self.head)?,
        };
        Ok(self.open.insert(open))
    }

    /// `file.1` becomes `file.2` and so on, the last is no more, and the file becomes `file.1`.
    fn set_aside(&mut self) -> io::Result<()> {
        let LinesConfig { file, keep, .. } = &self.config;
        for nth in (1..*keep).rev() {
            match fs::rename(numbered(file, nth), numbered(file, nth + 1)) {
                Err(fault) if fault.kind() != io::ErrorKind::NotFound => return Err(fault),
                Ok(()) | Err(_) => {}
            }
        }
        fs::rename(file, numbered(file, 1))?;
        self.open = None;
        Ok(())
    }
}

impl Open {
    fn new(path: &Path, head: &str) -> io::Result<Self> {
        let file = OpenOptions::new().read(true).append(true).create(true).mode(0o640).open(path)?;
        let found = file.metadata()?;
        let length = if found.is_file() { Some(mend(&file, found.len(), head)?) } else { None };
        Ok(Open { id: id(&found), file, length })
    }
}

fn id(file: &Metadata) -> FileId {
    (file.dev(), file.ino())
}

fn numbered(file: &Path, nth: u32) -> PathBuf {
    let mut name = file.as_os_str().to_owned();
    name.push(format!(".{nth}"));
    name.into()
}

/// How many bytes of whole lines there is room for; one line has room in an empty file however long it is.
fn fitting(lines: &[u8], length: u64, most: u64) -> usize {
    let room = most.saturating_sub(length).min(lines.len() as u64) as usize;
    match end_of_last_line(&lines[..room]) {
        0 if length == 0 => memchr::memchr(b'\n', lines).map_or(0, |at| at + 1),
        end => end,
    }
}

fn end_of_last_line(text: &[u8]) -> usize {
    memchr::memrchr(b'\n', text).map_or(0, |at| at + 1)
}

/// Writes all, or tells how much was written before it failed.
fn write(mut file: &File, text: &[u8]) -> (usize, io::Result<()>) {
    let mut written = 0;
    while written < text.len() {
        match file.write(&text[written..]) {
            Ok(0) => return (written, Err(io::ErrorKind::WriteZero.into())),
            Ok(more) => written += more,
            Err(fault) if fault.kind() == io::ErrorKind::Interrupted => {}
            Err(fault) => return (written, Err(fault)),
        }
    }
    (written, Ok(()))
}

/// Makes the file end with a whole line, and tells its length then: a line that was cut by a full disk or a crash goes. A
/// line that is none of ours stays and gets its end.
fn mend(mut file: &File, length: u64, head: &str) -> io::Result<u64> {
    let mut tail = vec![0; length.min(LONGEST_LINE) as usize];
    let start = length - tail.len() as u64;
    file.read_exact_at(&mut tail, start)?;
    let end = end_of_last_line(&tail);
    let torn = &tail[end..];
    if torn.is_empty() {
        return Ok(length);
    }
    let whole = start + end as u64;
    let head = head.as_bytes();
    if (torn.starts_with(head) || head.starts_with(torn)) && file.set_len(whole).is_ok() {
        return Ok(whole);
    }
    file.write_all(b"\n")?;
    Ok(length + 1)
}

#[cfg(test)]
mod tests {
    use std::env;
    use std::process::{Command, Stdio};

    use super::*;
    use crate::edge::scratch::Folder;

    const CHILD: &str = "TANDEM_TEST_LINES";

    fn file_of(config: LinesConfig) -> LinesFile {
        LinesFile::new(&config, "lines", "{\"began\":\"")
    }

    /// A file in that folder with so many bytes at most.
    fn lines_file(folder: &Folder, max_bytes: Option<u64>, keep: u32) -> LinesFile {
        let file = folder.path().join("lines.jsonl");
        file_of(LinesConfig { file, max_bytes, keep })
    }

    /// 30 bytes.
    fn line(nth: usize) -> String {
        format!("{{\"began\":\"{nth:017}\"}}\n")
    }

    fn lines(numbers: std::ops::Range<usize>) -> String {
        numbers.map(line).collect()
    }

    fn append(file: &mut LinesFile, text: &str) {
        let (whole, result) = file.append(text.as_bytes());
        assert!(result.is_ok() && whole == text.len(), "{whole} of {}: {result:?}", text.len());
    }

    fn text(folder: &Folder, name: &str) -> String {
        fs::read_to_string(folder.path().join(name)).unwrap_or_default()
    }

    #[test]
    fn a_full_file_is_set_aside_and_so_many_are_kept() {
        let folder = Folder::new();
        let mut file = lines_file(&folder, Some(100), 2);
        // One batch over several files, then one line at a time.
        append(&mut file, &lines(0..8));
        (8..20).for_each(|nth| append(&mut file, &line(nth)));
        assert_eq!(text(&folder, "lines.jsonl"), lines(18..20));
        assert_eq!(text(&folder, "lines.jsonl.1"), lines(15..18));
        assert_eq!(text(&folder, "lines.jsonl.2"), lines(12..15));
        assert_eq!(fs::read_dir(folder.path()).expect("a folder").count(), 3);
        // A start goes on with the file that is there.
        append(&mut lines_file(&folder, Some(100), 2), &lines(20..22));
        assert_eq!(text(&folder, "lines.jsonl"), line(21));
        assert_eq!(text(&folder, "lines.jsonl.1"), lines(18..21));
    }

    #[test]
    fn a_line_that_is_longer_than_a_file_may_be_has_one_of_its_own() {
        let folder = Folder::new();
        let mut file = lines_file(&folder, Some(20), 5);
        append(&mut file, &lines(0..3));
        for (nth, name) in ["lines.jsonl.2", "lines.jsonl.1", "lines.jsonl"].into_iter().enumerate() {
            assert_eq!(text(&folder, name), line(nth));
        }
    }

    #[test]
    fn a_file_that_can_not_be_set_aside_is_written_on() {
        let folder = Folder::new();
        fs::create_dir_all(folder.path().join("lines.jsonl.1/in use")).expect("a folder");
        let mut file = lines_file(&folder, Some(50), 1);
        append(&mut file, &lines(0..5));
        assert_eq!(text(&folder, "lines.jsonl"), lines(0..5));
        fs::remove_dir_all(folder.path().join("lines.jsonl.1")).expect("it is there");
        append(&mut file, &line(5));
        assert_eq!((text(&folder, "lines.jsonl.1"), text(&folder, "lines.jsonl")), (lines(0..5), line(5)));
    }

    #[test]
    fn what_logrotate_does_to_the_file_is_seen_at_the_next_line() {
        let folder = Folder::new();
        let path = folder.path().join("lines.jsonl");
        let aside = |name: &str| fs::rename(&path, folder.path().join(name)).expect("it is there");
        let mut file = lines_file(&folder, None, 1);
        append(&mut file, &line(0));
        aside("moved");
        append(&mut file, &line(1));
        assert_eq!((text(&folder, "moved"), text(&folder, "lines.jsonl")), (line(0), line(1)));
        // `create`: another file stands there at once.
        aside("moved");
        fs::write(&path, "").expect("a file");
        append(&mut file, &line(2));
        assert_eq!((text(&folder, "moved"), text(&folder, "lines.jsonl")), (line(1), line(2)));
        // `copytruncate`: the same file, empty.
        fs::OpenOptions::new().write(true).truncate(true).open(&path).expect("it is there");
        append(&mut file, &line(3));
        assert_eq!(text(&folder, "lines.jsonl"), line(3));
        fs::remove_file(&path).expect("it is there");
        append(&mut file, &line(4));
        assert_eq!(text(&folder, "lines.jsonl"), line(4));
    }

    #[test]
    fn a_line_that_a_crash_has_torn_is_cut_and_a_stranger_s_is_ended() {
        for (left, expected) in [
            (line(0) + "{\"began\":\"2025-11", line(0)),
            (line(0) + "{\"be", line(0)),
            ("{".to_owned(), String::new()),
            (line(0) + "# until here", line(0) + "# until here\n"),
            (line(0), line(0)),
            (String::new(), String::new()),
        ] {
            let folder = Folder::new();
            fs::write(folder.path().join("lines.jsonl"), &left).expect("a file");
            append(&mut lines_file(&folder, None, 1), &line(1));
            assert_eq!(text(&folder, "lines.jsonl"), expected + &line(1), "{left:?}");
        }
    }

    #[test]
    fn others_may_not_read_it() {
        let folder = Folder::new();
        append(&mut lines_file(&folder, None, 1), &line(0));
        let mode = fs::metadata(folder.path().join("lines.jsonl")).expect("it is there").mode();
        assert_eq!(mode & 0o137, 0, "{mode:o}");
    }

    /// A limit of a file's size (EFBIG) is a disk that fills up in the middle of a line and needs no mount. It holds for a
    /// whole process, so that is another one.
    #[test]
    fn a_disk_that_fills_up_in_the_middle_of_a_line_leaves_whole_lines() {
        const LINES: usize = 1000;
        if let Some(folder) = env::var_os(CHILD) {
            let file = Path::new(&folder).join("lines.jsonl");
            let mut file = file_of(LinesConfig { file, max_bytes: None, keep: 1 });
            let all = lines(0..LINES);
            let (whole, result) = file.append(all.as_bytes());
            assert_eq!(result.map_err(|fault| fault.kind()), Err(io::ErrorKind::FileTooLarge));
            assert_eq!(fs::metadata(file.path()).expect("it is there").len(), whole as u64);
            // Nothing has changed, and nothing does.
            assert_eq!(file.append(&all.as_bytes()[whole..]).0, 0);
            assert_eq!(fs::metadata(file.path()).expect("it is there").len(), whole as u64);
            // Room is made.
            fs::rename(file.path(), Path::new(&folder).join("first")).expect("it is there");
            append(&mut file, &all[whole..whole + 30]);
            return;
        }
        let folder = Folder::new();
        let test = "edge::lines::file::tests::a_disk_that_fills_up_in_the_middle_of_a_line_leaves_whole_lines";
        let script = format!("trap '' XFSZ; ulimit -f 8; exec \"$0\" --exact {test}");
        let child = Command::new("sh")
            .args(["-c", &script])
            .arg(env::current_exe().expect("this program"))
            .env(CHILD, folder.path())
            .stdin(Stdio::null())
            .output()
            .expect("a child");
        assert!(child.status.success(), "{}", String::from_utf8_lossy(&child.stdout));
        let (first, second) = (text(&folder, "first"), text(&folder, "lines.jsonl"));
        assert!(first.len() > 1000 && first.len() % 30 == 0, "{} bytes", first.len());
        assert_eq!(first + &second, lines(0..(text(&folder, "first").len() / 30 + 1)));
    }
}
