use crate::traffic::grpc;

/// How a request ended, as far as it says something about the endpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Outcome {
    /// A response that is no error of the server's.
    Success,
    /// A 5xx that is no gateway's.
    ServerError,
    /// 502, 503 or 504.
    GatewayError,
    /// There was no response: the connection could not be made or broke, or time was up.
    LocalFailure,
}

impl Outcome {
    /// That of an HTTP response.
    pub fn of_status(status: u16) -> Self {
        match status {
            502..=504 => Self::GatewayError,
            500..=599 => Self::ServerError,
            _ => Self::Success,
        }
    }

    /// That of a gRPC response, by its `grpc-status`: Envoy takes each for an HTTP status. What is not
    /// in the list of statuses counts as UNKNOWN, which is an error.
    pub fn of_grpc(status: u32) -> Self {
        match grpc::known(status) {
            // Envoy's 504 and 503.
            grpc::DEADLINE_EXCEEDED | grpc::UNAVAILABLE => Self::GatewayError,
            grpc::UNKNOWN | grpc::UNIMPLEMENTED | grpc::INTERNAL | grpc::DATA_LOSS => Self::ServerError,
            // OK, and what is the client's own doing.
            _ => Self::Success,
        }
    }

    pub(super) fn is_success(self) -> bool {
        self == Self::Success
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_servers_errors_count() {
        for (status, outcome) in [
            (200, Outcome::Success),
            (404, Outcome::Success),
            (429, Outcome::Success),
            (500, Outcome::ServerError),
            (503, Outcome::GatewayError),
            (505, Outcome::ServerError),
            (600, Outcome::Success),
        ] {
            assert_eq!(Outcome::of_status(status), outcome, "{status}");
        }
        let grpc: Vec<u32> = (0..=17)
            .filter(|status| !Outcome::of_grpc(*status).is_success())
            .collect();
        assert_eq!(grpc, [2, 4, 12, 13, 14, 15, 17]);
    }
}
