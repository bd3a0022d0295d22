//! Which endpoints are worse than they should be, by the responses that requests get.
//!
//! Two ways, alone or together. A [`Detector`] is Envoy's outlier detection, which Istio configures
//! by `outlierDetection`: endpoints that fail several times in a row, or more often than the others,
//! are ejected for a time that grows with each ejection, and never too many at once. A [`Gate`] is
//! Linkerd's failure accrual: one endpoint's failures in a row shut it, and after a while a single
//! request may try whether it is well again.
//!
//! ```
//! use std::time::Duration;
//! use mesh_policy::traffic::outlier::{Detection, Detector, Outcome};
//!
//! let detection = Detection::new().consecutive_errors(3).max_ejection_percent(50);
//! let detector = Detector::new(detection, ["10.0.0.1:80", "10.0.0.2:80"]);
//! let monitor = detector.monitor("10.0.0.1:80").ok_or("no such endpoint")?;
//!
//! let now = Duration::from_secs(100);
//! assert!(monitor.record(Outcome::of_status(500), now, 1).is_none());
//! assert!(monitor.record(Outcome::LocalFailure, now, 2).is_none());
//! let ejection = monitor.record(Outcome::of_status(503), now, 3).ok_or("not ejected")?;
//! assert_eq!(ejection.until, now + Duration::from_secs(30));
//!
//! // Once in an interval somebody looks who may come back. Sets are built anew after changes, by
//! // `set.with_health(|endpoint| detector.health(endpoint.key()))`.
//! assert!(detector.sweep(now + Duration::from_secs(20), 4).is_empty());
//! assert_eq!(detector.sweep(now + Duration::from_secs(30), 5).len(), 1);
//! # Ok::<(), &str>(())
//! ```

pub use self::{
    accrual::{Accrual, Admission, Gate},
    detection::{Detection, FailurePercentage, SuccessRate},
    detector::{Change, Detector, Monitor},
    host::{Cause, Ejection},
    outcome::Outcome,
};

mod accrual;
mod detection;
mod detector;
mod host;
mod outcome;
mod rates;
