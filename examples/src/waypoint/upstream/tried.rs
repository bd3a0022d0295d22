use mesh_policy::traffic::balance::{Ask, EndpointId};

/// After how many endpoints that cannot be connected to a request goes elsewhere than to others of their
/// level: as many attempts as Istio has Envoy make at one (`update_frequency`). Nothing has reached an
/// application there, so that what is too much for one level is not carried on to the next.
const MOST_UNREACHED: usize = 2;

/// Which endpoints have failed a request.
#[derive(Debug, Default)]
pub(super) struct Tried {
    endpoints: Vec<EndpointId>,
    /// How many of them could not be connected to.
    unreached: usize,
}

impl Tried {
    pub(super) fn add(&mut self, endpoint: EndpointId, is_unreached: bool) {
        self.endpoints.push(endpoint);
        self.unreached += usize::from(is_unreached);
    }

    /// What the next attempt asks of its endpoint.
    pub(super) fn ask(&self) -> Ask<'_> {
        Ask::new()
            .avoid(&self.endpoints)
            .leave_levels(self.unreached >= MOST_UNREACHED)
    }
}
