//! Issues certificates for trying things out: `dev-certs FOLDER SPIFFE_ID...`.
//!
//! Writes the root to `FOLDER/roots.pem` and, for each ID, its chain and key to `NAME.pem` and
//! `NAME.key`, where `NAME` is the last segment of the ID. All are valid for a day.

use std::error::Error;
use std::path::PathBuf;

use mesh_identity::SpiffeId;
use mesh_identity::source::dev_ca::DevCa;
use rustls::pki_types::UnixTime;

fn main() -> Result<(), Box<dyn Error>> {
    let mut args = std::env::args().skip(1);
    let folder = PathBuf::from(args.next().ok_or("usage: dev-certs FOLDER SPIFFE_ID...")?);
    let ids = args.map(|id| id.parse()).collect::<Result<Vec<SpiffeId>, _>>()?;
    let first = ids.first().ok_or("no SPIFFE ID given")?;
    let now = UnixTime::now();
    let ca = DevCa::new(first.trust_domain().clone(), now)?;
    std::fs::create_dir_all(&folder)?;
    ca.write_roots(&folder)?;
    for id in &ids {
        let name = id.path().rsplit('/').next().unwrap_or_default();
        ca.issue(id, now)?.write(&folder, name)?;
    }
    Ok(())
}
