//! `[trace]`: which calls are told of message by message, and who is told.

use std::net::SocketAddr;
use std::path::Path;

use super::reader::{A_FILE, Section};
use super::values::bind;
use crate::edge::hep::{HepConfig, Password};
use crate::edge::key;
use crate::edge::stories::StoriesConfig;
use crate::engine::flow::Transport;
use crate::engine::trace::{self, Sample};

/// What is told of calls.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TraceConfig {
    /// The engine's part.
    pub engine: trace::Config,
    /// What is kept, and where it goes.
    pub stories: StoriesConfig,
}

/// Reads `[trace]`.
pub(super) fn read(section: &Section<'_>, base: &Path) -> TraceConfig {
    let default = StoriesConfig::default();
    let sample = section.real("sample", 0.0..=1.0).map_or(0, |share| (share * f64::from(Sample::ALL)).round() as u32);
    let count = |key, otherwise| section.number(key, 0..=1_000_000).map_or(otherwise, |number| number as usize);
    let hep = section.text("hep", "udp:address:port", hep);
    let password = section.text("hep_password_file", A_FILE, |file| password(file, base));
    let id = section.number("hep_id", 0..=i64::from(u32::MAX)).map_or(HepConfig::USUAL_ID, |number| number as u32);
    if !section.has("hep") && (section.has("hep_id") || section.has("hep_password_file")) {
        let problem = "there is no hep that it is for: give hep = \"udp:10.0.0.9:9060\", or leave it out";
        section.fault_of(&["hep_id", "hep_password_file"], problem);
    }
    let stories = StoriesConfig {
        keep: count("keep", default.keep),
        calls: count("calls", default.calls),
        hep: hep.map(|to| HepConfig { to, id, password }),
        otlp: section.text("otlp", "http://address:port", otlp),
        whole: section.flag("whole").unwrap_or(false),
    };
    section.finish();
    TraceConfig { engine: trace::Config { sample: Sample(sample), whole: stories.whole }, stories }
}

fn password(file: &str, base: &Path) -> Result<Password, String> {
    const REMEDY: &str = "give a file of mode 0600 with the capture server's password in its first line";
    if file.is_empty() {
        return Err(REMEDY.to_owned());
    }
    let text = key::read(&base.join(file)).map_err(|fault| fault.to_string())?;
    Password::parse(&text).map_err(|problem| format!("{problem}: {REMEDY}"))
}

fn hep(text: &str) -> Result<SocketAddr, String> {
    match bind(text) {
        Ok(to) if to.transport == Transport::Udp && is_somewhere(to.address) => Ok(to.address),
        _ => Err("give udp:address:port of a capture server, as udp:10.0.0.9:9060".to_owned()),
    }
}

fn otlp(text: &str) -> Result<SocketAddr, String> {
    let address = text.strip_prefix("http://").and_then(|text| text.trim_end_matches('/').parse().ok());
    address.filter(|address| is_somewhere(*address)).ok_or_else(|| {
        "give http://address:port of a collector, as http://127.0.0.1:4318: no name, no TLS and no path".to_owned()
    })
}

fn is_somewhere(address: SocketAddr) -> bool {
    address.port() != 0 && !address.ip().is_unspecified()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::tests::{faults, parse, put};
    use crate::edge::scratch::Folder;

    fn of(text: &str) -> TraceConfig {
        parse(&format!("[[listener]]\nbind = \"udp:127.0.0.1:8060\"\n{text}")).expect("valid").trace
    }

    #[test]
    fn every_key_is_read_and_nothing_is_traced_without_one() {
        assert_eq!(of(""), TraceConfig::default());
        let folder = Folder::new();
        let file = folder.path().join("hep.password");
        put(&folder, "hep.password", "secret\n", 0o600);
        let all = of(&r#"
            [trace]
            sample = 0.01
            keep = 10
            calls = 20
            whole = true
            hep = "udp:10.0.0.9:9060"
            hep_id = 7
            hep_password_file = "hep.password"
            otlp = "http://[::1]:4318/"
            "#
        .replace("hep.password", &file.display().to_string()));
        let hep = HepConfig {
            to: "10.0.0.9:9060".parse().expect("an address"),
            id: 7,
            password: Some(Password::parse(b"secret").expect("one")),
        };
        let otlp = Some("[::1]:4318".parse().expect("an address"));
        assert_eq!(all.engine, trace::Config { sample: Sample(10_000), whole: true });
        assert_eq!(all.stories, StoriesConfig { keep: 10, calls: 20, hep: Some(hep), otlp, whole: true });
        assert_eq!(of("[trace]\nsample = 1\n").engine.sample, Sample(Sample::ALL));
    }

    #[test]
    fn a_password_is_read_here_and_others_may_not_read_it() {
        let folder = Folder::new();
        let file = folder.path().join("hep.password");
        let fault = |mode, text: &str| {
            put(&folder, "hep.password", text, mode);
            let name = file.display();
            let faults = faults(&format!("[trace]\nhep = \"udp:10.0.0.9:9060\"\nhep_password_file = \"{name}\"\n"));
            assert!(faults.len() == 1 && faults[0].starts_with("3: trace.hep_password_file is "), "{faults:?}");
            assert!(!faults[0].contains("hunter2"), "{faults:?}");
            faults[0].clone()
        };
        assert!(fault(0o644, "hunter2").contains("chmod 600"));
        assert!(fault(0o600, "\n").contains("it holds no password: give a file of mode 0600"));
        std::fs::remove_file(&file).expect("it was there");
        let none = faults("[trace]\nhep = \"udp:10.0.0.9:9060\"\nhep_password_file = \"none\"\n");
        assert!(none.len() == 1 && none[0].contains("can't read it"), "{none:?}");
    }

    #[test]
    fn every_fault_is_told_with_line_value_and_remedy() {
        let text = "[trace]\nsample = 2\nkeep = -1\nhep_id = 1\notlp = \"https://collector:4318\"\nsampel = 1\n";
        let told = [
            "2: trace.sample is 2: give a number from 0 to 1",
            "3: trace.keep is -1: give a whole number from 0 to 1000000",
            "4: trace: there is no hep that it is for: give hep = \"udp:10.0.0.9:9060\", or leave it out",
            "5: trace.otlp is \"https://collector:4318\": give http://address:port of a collector, as \
             http://127.0.0.1:4318: no name, no TLS and no path",
            "6: trace.sampel is no known key: give one of sample, hep, hep_password_file, hep_id, keep, calls, otlp, whole",
        ];
        assert_eq!(faults(text), told);
        for hep in ["tcp:10.0.0.9:9060", "udp:10.0.0.9", "udp:*:9060", "udp:10.0.0.9:0"] {
            let told =
                format!("2: trace.hep is {hep:?}: give udp:address:port of a capture server, as udp:10.0.0.9:9060");
            assert_eq!(faults(&format!("[trace]\nhep = \"{hep}\"\n")), [told]);
        }
    }
}
