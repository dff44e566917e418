//! How many files and sockets this process may have open.

use nix::sys::resource::{Resource, getrlimit};

/// What a system gives by default.
const USUAL: u64 = 1024;

/// How many at once (`ulimit -n`).
pub fn limit() -> u64 {
    getrlimit(Resource::RLIMIT_NOFILE).map_or(USUAL, |(soft, _)| soft)
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn it_is_the_limit_that_the_kernel_holds_us_to() {
        let limits = fs::read_to_string("/proc/self/limits").expect("a process has limits");
        let line = limits.lines().find_map(|line| line.strip_prefix("Max open files")).expect("that one too");
        let soft = line.split_whitespace().next().expect("the soft limit comes first");
        assert_eq!(soft.parse().unwrap_or(u64::MAX), limit());
    }
}
