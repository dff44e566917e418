//! Drills: something goes wrong on purpose while calls run, and what it did to them is measured. A drill knows nothing but a
//! [`site`], which is commands; [`lab`] makes one of its own in network namespaces.

pub mod command;
pub mod course;
pub mod kind;
pub mod lab;
pub mod limits;
pub mod measure;
pub mod site;
pub mod stage;
pub mod state;

pub use command::CommandError;
pub use course::{Course, Drill, DrillError, Look, Plan, Times};
pub use kind::Kind;
pub use lab::{Lab, LabError};
pub use limits::{Bound, Limits};
pub use measure::{Outcome, measure};
pub use site::{Site, SiteError};
pub use stage::Stage;
