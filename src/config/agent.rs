//! `[set.agent]` and the `agent` of a `[[set.destination]]`: how a destination is asked what it wants itself.

use std::sync::Arc;
use std::time::Duration;

use super::health::DAY;
use super::probe::{A_PATH, SHORTEST, Switch, path};
use super::reader::Section;
use crate::engine::dispatch::Agent;

/// The longest time that an answer may take.
const LONGEST: Duration = Duration::from_secs(30);

/// What one `agent` table says, as far as it says anything.
#[derive(Clone, Debug, Default)]
pub(super) struct Keys {
    agent: Switch,
    port: Option<u16>,
    path: Option<String>,
    interval: Option<Duration>,
    timeout: Option<Duration>,
    fall: Option<u32>,
}

impl Keys {
    /// Reads the table, and tells what it does wrong together with what lies below it.
    pub(super) fn read(section: &Section<'_>, below: &Keys) -> Self {
        let time = |key, most| section.duration_within(key, SHORTEST..=most);
        let keys = Keys {
            agent: Switch::read(section).over(below.agent),
            port: section.number("port", 1..=65_535).map(|port| port as u16).or(below.port),
            path: section.text("path", A_PATH, path).or_else(|| below.path.clone()),
            interval: time("interval", DAY).or(below.interval),
            timeout: time("timeout", LONGEST).or(below.timeout),
            fall: section.number("fall", 1..=1000).map(|fall| fall as u32).or(below.fall),
        };
        if section.is_present() && keys.agent.is_on() {
            // What its set does wrong is told there.
            let told = below.agent.is_on() && below.port.is_none();
            if keys.port.is_none() && !section.has("port") && !told {
                section.fault("it has no port: give the one where the agent answers, as port = 9001");
            }
            let Agent { interval, timeout, .. } = keys.over_default(0);
            if timeout > interval && (section.has("timeout") || section.has("interval")) {
                let problem =
                    format!("timeout ({timeout:?}) is longer than interval ({interval:?}): give as much or less");
                section.fault_of(&["timeout", "interval"], &problem);
            }
        }
        section.finish();
        keys
    }

    /// How the agent is asked; none: it is not.
    pub(super) fn agent(&self) -> Option<Arc<Agent>> {
        // Without a port it is a fault that is told.
        self.port.filter(|_| self.agent.is_on()).map(|port| self.over_default(port).into())
    }

    fn over_default(&self, port: u16) -> Agent {
        let default = Agent::new(port);
        let interval = self.interval.unwrap_or(default.interval);
        Agent {
            port,
            path: self.path.clone().unwrap_or(default.path),
            interval,
            timeout: self.timeout.unwrap_or(default.timeout.min(interval)),
            fall: self.fall.unwrap_or(default.fall),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::tests::{faults, policy};

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn every_key_is_read_and_a_destinations_own_are_laid_over_its_sets() {
        let policy = policy(
            r#"
            [set.agent]
            port = 9001
            path = "/wants?of=tts"
            interval = "3s"
            timeout = "1s"
            fall = 5
            [[set.destination]]
            uri = "sip:127.0.0.1:7010"
            agent = { port = 9010 }
            [[set.destination]]
            uri = "sip:127.0.0.1:7011"
            agent = { enabled = false }
            [[set.destination]]
            uri = "sip:127.0.0.1:7012"
            probe = { interval = "1s" }
            "#,
        );
        let agent = Agent { port: 9001, path: "/wants?of=tts".into(), interval: SECOND * 3, timeout: SECOND, fall: 5 };
        let of = |uri| policy.agent_of(uri).map(|agent| (**agent).clone());
        assert_eq!(of("sip:127.0.0.1:7009"), Some(agent.clone()));
        assert_eq!(of("sip:127.0.0.1:7010"), Some(Agent { port: 9010, ..agent.clone() }));
        assert_eq!(of("sip:127.0.0.1:7011"), None);
        assert_eq!(of("sip:127.0.0.1:7012"), Some(agent));
        assert_eq!(policy.probing_instead.len(), 1, "an agent of its own is no probe of its own");
    }

    #[test]
    fn a_set_has_agents_only_if_its_table_is_there_and_does_not_say_otherwise() {
        let of = |text: &str| policy(text).agent.map(|agent| (*agent).clone());
        assert_eq!(of(""), None);
        assert_eq!(of("agent = { port = 9001 }"), Some(Agent::new(9001)));
        assert_eq!(of("agent = { port = 9001, enabled = false }"), None);
        assert_eq!(of("agent = { port = 1, interval = \"500ms\" }").map(|agent| agent.timeout), Some(SECOND / 2));
        // One server alone, with times that its set gives.
        let policy = policy(
            "agent = { enabled = false, fall = 9 }\n[[set.destination]]\nuri = \"sip:127.0.0.1:7010\"\n\
             agent = { enabled = true, port = 9010 }\n",
        );
        let own = policy.agent_of("sip:127.0.0.1:7010").map(|agent| (agent.port, agent.fall));
        assert_eq!((policy.agent, own), (None, Some((9010, 9))));
    }

    #[test]
    fn every_fault_is_told_with_line_value_and_remedy() {
        let faults = faults(
            r#"[[set]]
id = 19
[set.agent]
enabled = 1
port = 0
path = "wants"
interval = "50ms"
timeout = "31s"
fall = 0
weight = 5
[[set.destination]]
uri = "sip:127.0.0.1:7010"
agent = { interval = "1s", timeout = "2s", port = 9001 }
[[set]]
id = 20
[set.agent]
[[set]]
id = 21
agent = 9001
"#,
        );
        let wanted = [
            "4: set 19.agent.enabled is 1: give true or false",
            "5: set 19.agent.port is 0: give a whole number from 1 to 65535",
            "6: set 19.agent.path is \"wants\": give a path from its slash, as /health, with what else it holds \
             percent-encoded",
            "7: set 19.agent.interval is \"50ms\": give 100ms to 86400s",
            "8: set 19.agent.timeout is \"31s\": give 100ms to 30s",
            "9: set 19.agent.fall is 0: give a whole number from 1 to 1000",
            "10: set 19.agent.weight is no known key: give one of enabled, port, path, interval, timeout, fall",
            "13: set 19.destination \"sip:127.0.0.1:7010\".agent: timeout (2s) is longer than interval (1s): give as much \
             or less",
            "16: set 20.agent: it has no port: give the one where the agent answers, as port = 9001",
            "19: set 21.agent is no table: write [set.agent]",
        ];
        assert_eq!(faults, wanted);
    }
}
