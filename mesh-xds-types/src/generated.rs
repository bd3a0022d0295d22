//! The modules that the generated code expects around itself: one for each part of a package's
//! name. `tests/generated.rs` writes what they include.

#![allow(
    missing_docs,
    unreachable_pub,
    unused_qualifications,
    elided_lifetimes_in_paths,
    unnameable_types,
    clippy::all,
    clippy::missing_errors_doc,
    clippy::allow_attributes_without_reason,
    reason = "generated code; a field is documented in its .proto file where its name is not enough"
)]

pub mod envoy {
    pub mod config {
        pub mod core {
            /// Who takes part in discovery, and what messages about requests are made of
            /// (`envoy.config.core.v3`).
            pub mod v3 {
                include!("../generated/envoy.config.core.v3.rs");
            }
        }
    }
    #[cfg(feature = "rate-limit")]
    pub mod extensions {
        pub mod common {
            pub mod ratelimit {
                /// What requests are counted by (`envoy.extensions.common.ratelimit.v3`).
                pub mod v3 {
                    include!("../generated/envoy.extensions.common.ratelimit.v3.rs");
                }
            }
        }
    }
    pub mod service {
        #[cfg(feature = "ext-authz")]
        pub mod auth {
            /// Services that decide about requests (`envoy.service.auth.v3`).
            pub mod v3 {
                include!("../generated/envoy.service.auth.v3.rs");
            }
        }
        pub mod discovery {
            /// The incremental discovery protocol (`envoy.service.discovery.v3`).
            pub mod v3 {
                include!("../generated/envoy.service.discovery.v3.rs");
            }
        }
        #[cfg(feature = "rate-limit")]
        pub mod ratelimit {
            /// Services that count requests (`envoy.service.ratelimit.v3`).
            pub mod v3 {
                include!("../generated/envoy.service.ratelimit.v3.rs");
            }
        }
    }
    #[cfg(any(feature = "ext-authz", feature = "rate-limit"))]
    pub mod r#type {
        /// Statuses of HTTP and units of time (`envoy.type.v3`).
        pub mod v3 {
            include!("../generated/envoy.r#type.v3.rs");
        }
    }
}

pub mod google {
    /// How a call failed (`google.rpc`).
    pub mod rpc {
        include!("../generated/google.rpc.rs");
    }
}

pub mod istio {
    /// Policies (`istio.security`).
    pub mod security {
        include!("../generated/istio.security.rs");
    }
    pub mod v1 {
        /// Certificate signing (`istio.v1.auth`).
        pub mod auth {
            include!("../generated/istio.v1.auth.rs");
        }
    }
    /// Workloads and services (`istio.workload`).
    pub mod workload {
        include!("../generated/istio.workload.rs");
    }
}

pub mod mesh {
    pub mod traffic {
        /// What a waypoint is told of traffic (`mesh.traffic.v1`).
        pub mod v1 {
            include!("../generated/mesh.traffic.v1.rs");
        }
    }
}
