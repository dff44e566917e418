//! Where a script branches: the ways of `if`, `switch` and `while`, and questions about ourselves.

use super::condition::{self, Ways, both, either};
use super::report::At;
use super::script::{Flow, Path, Value, Walker, Worth, joined, unknown};
use super::syntax::{Case, Expr, Statement, assignments};

impl<'w> Walker<'w> {
    /// Walks each branch by its ways.
    pub(super) fn branch(&mut self, path: &Path, branches: Vec<(Ways, &'w [Statement])>) -> Flow {
        let mut flow = Flow::default();
        // All that comes in goes on: then nothing was asked.
        let mut all_go_on = true;
        for (ways, body) in branches {
            let ways = both(&path.ways, &ways);
            if ways.is_empty() {
                continue;
            }
            let Flow { on, returned, broken } = self.statements(body, Path { ways: ways.clone(), ..path.clone() });
            all_go_on &= on.as_ref().is_some_and(|on| on.ways == ways);
            flow.on = joined(flow.on, on);
            flow.returned = joined(flow.returned, returned);
            flow.broken = joined(flow.broken, broken);
        }
        if let Some(on) = flow.on.as_mut().filter(|_| all_go_on) {
            on.ways = path.ways.clone();
        }
        flow
    }

    /// A case goes on into the next one, unless it ends by `break`; the default is for what no case takes, wherever it stands.
    pub(super) fn switch(&mut self, on: &'w Expr, cases: &'w [Case], mut path: Path) -> Flow {
        let mut left: Ways = vec![vec![]];
        let mut taken = Vec::new();
        for (value, at, _) in cases {
            let Some(value) = value else {
                taken.push(None);
                continue;
            };
            let (yes, no) = self.compared(on, "==", value, *at, &mut path);
            taken.push(Some(both(&left, &yes)));
            left = both(&left, &condition::rest(no));
        }
        let has_default = cases.iter().any(|(value, ..)| value.is_none());
        let mut flow = Flow::default();
        let mut falling: Option<Path> = None;
        for (ways, (.., body)) in taken.into_iter().zip(cases) {
            let ways = both(&path.ways, &ways.unwrap_or_else(|| left.clone()));
            let entering = (!ways.is_empty()).then(|| Path { ways, ..path.clone() });
            let Some(start) = joined(falling.take(), entering) else { continue };
            let Flow { on, returned, broken } = self.statements(body, start);
            falling = on;
            flow.returned = joined(flow.returned, returned);
            flow.broken = joined(flow.broken, broken);
        }
        let untouched = both(&path.ways, &left);
        let past = (!has_default && !untouched.is_empty()).then_some(Path { ways: untouched, ..path });
        Flow { on: joined(joined(falling, flow.broken), past), returned: flow.returned, broken: None }
    }

    /// A loop is walked once, with nothing known of what it sets.
    pub(super) fn repeat(&mut self, body: &'w [Statement], mut path: Path) -> Flow {
        let mut set = Vec::new();
        assignments(body, &mut |variable, at| set.push((variable, at)));
        for (variable, at) in set {
            let to = "it is set in a loop, so it is not known before a call comes: write the rules by hand";
            self.report.not_mappable(at, variable, to);
            path.variables.insert(variable.to_owned(), vec![Worth { value: Value::Unknown, ways: vec![vec![]] }]);
        }
        let kept: Vec<String> = path.variables.keys().cloned().collect();
        let before = path.clone();
        let Flow { on, returned, broken } = self.statements(body, path);
        let mut after = joined(joined(on, broken), Some(before));
        if let Some(after) = &mut after {
            let unknown = vec![Worth { value: Value::Unknown, ways: vec![vec![]] }];
            assignments(body, &mut |variable, _| {
                if kept.iter().any(|name| name == variable) {
                    after.variables.insert(variable.to_owned(), unknown.clone());
                }
            });
        }
        Flow { on: after, returned, broken: None }
    }
}

/// A variable that the script itself has set, against a text; none if one of its values is not known.
pub(super) fn held(values: &[Worth], sign: &str, right: &str) -> Option<(Ways, Ways)> {
    let (mut yes, mut no) = (Ways::new(), Ways::new());
    for Worth { value, ways } in values {
        let Value::Text(text) = value else { return None };
        let holds = match sign {
            "==" | "=" => text == right,
            "!=" => text != right,
            _ => return None,
        };
        let side = if holds { &mut yes } else { &mut no };
        *side = either(std::mem::take(side), ways.clone());
    }
    Some((yes, no))
}

/// `... == myself`. Of the Request-URI it is what Tandem takes each request for; no rule asks it of a source or of From and To.
pub(super) fn myself(left: &str, at: At, shown: &str, is_exception: bool) -> (Ways, Ways) {
    const OURS: &[&str] = &["uri", "$ru", "$rd", "$(ru{uri.host})", "$(ru{uri.domain})", "Route", "$hdr(Route)"];
    let (usual, exception) = (vec![vec![]], unknown(at, shown.replacen(" !", " =", 1)).1);
    match (OURS.contains(&left), is_exception) {
        (true, false) => (usual, exception),
        (true, true) => (exception, usual),
        (false, false) => unknown(at, shown.to_owned()),
        (false, true) => {
            let (yes, no) = unknown(at, shown.replacen(" !", " =", 1));
            (no, yes)
        }
    }
}
