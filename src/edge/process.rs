//! What this process has of its machine, as the kernel tells it.

use std::fs;
use std::time::Duration;

use nix::sys::resource::{UsageWho, getrusage};
use nix::sys::time::TimeVal;

use super::descriptors;

/// What it has now, and has used since its start.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Usage {
    /// Processor time, its own and the kernel's for it.
    pub cpu: Duration,
    /// Memory in RAM, in bytes.
    pub resident: u64,
    /// Memory that it has asked for, in bytes.
    pub virtual_memory: u64,
    /// Threads.
    pub threads: u64,
    /// Files and sockets that it has open.
    pub open_files: usize,
    /// How many it may have.
    pub most_files: u64,
}

/// What it has; none where the kernel does not tell (without `/proc`). Reads files, and takes a millisecond with thousands of
/// connections.
pub fn usage() -> Option<Usage> {
    let status = fs::read_to_string("/proc/self/status").ok()?;
    let kilobytes = |name| Some(number(&status, name)? * 1024);
    let times = getrusage(UsageWho::RUSAGE_SELF).ok()?;
    Some(Usage {
        cpu: duration(times.user_time()) + duration(times.system_time()),
        resident: kilobytes("VmRSS:")?,
        virtual_memory: kilobytes("VmSize:")?,
        threads: number(&status, "Threads:")?,
        // One of them is the list itself.
        open_files: fs::read_dir("/proc/self/fd").ok()?.count().saturating_sub(1),
        most_files: descriptors::limit(),
    })
}

/// The number in the line of that name.
fn number(status: &str, name: &str) -> Option<u64> {
    let rest = status.lines().find_map(|line| line.strip_prefix(name))?;
    rest.split_whitespace().next()?.parse().ok()
}

fn duration(time: TimeVal) -> Duration {
    let part = |part: i64| u64::try_from(part).unwrap_or_default();
    Duration::from_secs(part(time.tv_sec())) + Duration::from_micros(part(time.tv_usec()))
}

#[cfg(test)]
mod tests {
    use std::net::UdpSocket;

    use super::*;

    #[test]
    fn what_it_tells_follows_what_the_process_does() {
        let before = usage().expect("Linux tells");
        assert!(before.threads >= 1 && before.resident > 1 << 20 && before.virtual_memory >= before.resident);
        assert_eq!(before.most_files, descriptors::limit());
        // Other tests of this process open and close more meanwhile.
        let sockets: Vec<_> = (0..200).map(|_| UdpSocket::bind("127.0.0.1:0").expect("a free port")).collect();
        let mut memory = vec![0_u8; 64 << 20];
        memory.iter_mut().step_by(4096).for_each(|byte| *byte = 1);
        let mut worked = usage().expect("Linux tells");
        while worked.cpu < before.cpu + Duration::from_millis(20) {
            worked = usage().expect("Linux tells");
        }
        assert!(worked.open_files >= sockets.len() && worked.resident >= memory.len() as u64, "{worked:?}");
        drop((sockets, memory));
    }

    #[test]
    fn a_line_is_found_by_its_name() {
        let status = "Name:\ttandem\nVmSize:\t  1234 kB\nThreads:\t7\n";
        assert_eq!(
            (number(status, "VmSize:"), number(status, "Threads:"), number(status, "Vm:")),
            (Some(1234), Some(7), None)
        );
    }
}
