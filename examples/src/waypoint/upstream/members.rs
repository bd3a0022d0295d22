use std::ops::ControlFlow;
use std::sync::Arc;

use mesh_policy::traffic::balance::{Failover, Locality};
use mesh_policy::traffic::upstream::{Places, Settings};
use mesh_xds::store::{Mode, Service, Workload};

use super::site::{Ground, Here, Site, Way, locality, shares};
use crate::waypoint::addressee::Addressee;
use crate::waypoint::labels::WorkloadLabels;

/// The workloads that can be asked for a port, and how, in the order of their uids. Of a service they are
/// some; a workload that is asked for by itself is there however it is.
pub(super) fn members<'m>(
    ground: Ground<'m>,
    to: &Addressee,
    port: u16,
    settings: &Settings,
) -> Vec<(&'m Arc<Workload>, Way)> {
    match to {
        Addressee::Service(service) => of_service(ground, service, port, settings),
        Addressee::Workload { workload, address } => {
            let workload = ground.mesh.workload(&workload.uid);
            let found = workload.and_then(|workload| {
                let way = Site::way_to(ground.here, workload, (*address, port))?;
                Some((workload, way))
            });
            found.into_iter().collect()
        }
    }
}

fn of_service<'m>(
    ground: Ground<'m>,
    service: &Arc<Service>,
    port: u16,
    settings: &Settings,
) -> Vec<(&'m Arc<Workload>, Way)> {
    let here = ground.here;
    let mut found = Vec::new();
    ground.mesh.endpoints(&service.key).visit(|endpoint| {
        let workload = endpoint.workload();
        let is_fit = workload.is_healthy || service.balancing.allows_unhealthy;
        // Rules about places are for those that are left.
        let is_near = service.balancing.mode != Mode::Strict || distance(here, workload, service) == 0;
        let is_member = settings
            .labels
            .iter()
            .all(|(name, value)| ground.labels.get(workload, name) == Some(value));
        if is_fit
            && is_near
            && is_member
            && workload.capacity > 0
            && let Some(way) = Site::way(ground, service, endpoint, port)
        {
            found.push((workload, way));
        }
        ControlFlow::<()>::Continue(())
    });
    found
}

/// How many of the places that a service prefers a workload does not share, from the first such.
fn distance(here: &Here, workload: &Workload, service: &Service) -> usize {
    let preferred = &service.balancing.preferences;
    here.workload.as_ref().map_or(0, |here| {
        let shared = preferred.iter().take_while(|scope| shares(here, workload, **scope));
        preferred.len() - shared.count()
    })
}

/// Where an endpoint stands among others.
pub(super) struct Standing {
    pub(super) priority: u32,
    pub(super) locality: Locality,
    pub(super) share: Option<u32>,
}

/// Where each endpoint of a list stands.
pub(super) fn places(
    ground: Ground<'_>,
    to: &Addressee,
    settings: &Settings,
    found: &[(&Arc<Workload>, Way)],
) -> Vec<Standing> {
    let here = ground.here;
    let mut counted: Vec<(Locality, u32)> = Vec::new();
    for (workload, _) in found {
        let place = locality(workload);
        match counted.iter_mut().find(|(known, _)| *known == place) {
            Some((_, count)) => *count += 1,
            None => counted.push((place, 1)),
        }
    }
    let own = here.workload.as_deref();
    let wanted = &settings.places;
    let shares = own.map_or_else(Vec::new, |own| parts(wanted, own, &counted));
    let of_service = |service: &Service, workload: &Workload| match service.balancing.mode {
        Mode::Failover => u32::try_from(distance(here, workload, service)).unwrap_or(u32::MAX),
        // Where somebody looks who is ill, Istio prefers who is near, unless the service says otherwise.
        Mode::Any if settings.detection.is_some() => {
            own.map_or(0, |own| Failover::new().priority(&locality(own), &locality(workload)))
        }
        _ => 0,
    };
    let stands = |(workload, _): &(&Arc<Workload>, Way)| {
        let locality = locality(workload);
        let at = counted.iter().position(|(known, _)| *known == locality);
        Standing {
            priority: own
                .and_then(|own| priority(ground.labels, wanted, own, workload))
                .or_else(|| Some(of_service(to.service()?, workload)))
                .unwrap_or_default(),
            share: at.and_then(|at| shares.get(at).copied().flatten()),
            locality,
        }
    };
    found.iter().map(stands).collect()
}

/// An endpoint's priority; `None` if it is as its service says.
fn priority(labels: &WorkloadLabels, places: &Places, here: &Workload, endpoint: &Workload) -> Option<u32> {
    match places {
        Places::Alike | Places::Divided(_) => Some(0),
        Places::Near(failover) => Some(failover.priority(&locality(here), &locality(endpoint))),
        Places::Labels(order) => Some(order.priority(|name| labels.get(here, name), |name| labels.get(endpoint, name))),
        _ => None,
    }
}

/// Which share of the requests each of these localities gets.
fn parts(places: &Places, here: &Workload, localities: &[(Locality, u32)]) -> Vec<Option<u32>> {
    match places {
        Places::Divided(distribution) => distribution.shares(&locality(here), localities),
        _ => vec![None; localities.len()],
    }
}
