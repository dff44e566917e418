//! The edge: all that touches the outside, one outside crate to a file; nothing is decided here.

pub mod build;
pub mod check;
pub mod client;
pub mod cluster;
pub mod counters;
pub mod descriptors;
pub mod hep;
pub mod http;
pub mod interfaces;
pub mod journal;
pub mod key;
pub mod lines;
pub mod log;
pub mod metrics;
pub mod moment;
pub mod notify;
pub mod otlp;
pub mod partitions;
pub mod process;
pub mod records;
pub mod resolve;
pub mod retry;
pub mod seal;
pub mod store;
pub mod stories;
pub mod tcp;
pub mod tls;
pub mod udp;
pub mod webhook;

#[cfg(test)]
pub(crate) mod scratch {
    //! A folder of a test's own that goes away with it.

    use std::path::{Path, PathBuf};
    use std::sync::atomic::{AtomicU32, Ordering};

    pub(crate) struct Folder(PathBuf);

    impl Folder {
        pub(crate) fn new() -> Self {
            static COUNT: AtomicU32 = AtomicU32::new(0);
            let name = format!("tandem-test-{}-{}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
            let path = std::env::temp_dir().join(name);
            let _ = std::fs::remove_dir_all(&path);
            std::fs::create_dir_all(&path).expect("a folder for the test");
            Folder(path)
        }

        pub(crate) fn path(&self) -> &Path {
            &self.0
        }

        /// The names of the files in it, in order.
        pub(crate) fn files(&self) -> Vec<String> {
            let mut names: Vec<_> = std::fs::read_dir(&self.0)
                .expect("the test's folder")
                .map(|entry| entry.expect("an entry").file_name().to_string_lossy().into_owned())
                .collect();
            names.sort();
            names
        }
    }

    impl Drop for Folder {
        fn drop(&mut self) {
            let _ = std::fs::remove_dir_all(&self.0);
        }
    }
}
