//! Pods.

use std::net::IpAddr;

use mesh_policy::authz::k8s::{Object, Problem};

use super::Metadata;
use super::fields::{bad, ip, required_port};
use super::metadata::is_name;

/// The account that every namespace has, and that Pods have which name none.
pub(in crate::control_plane) const DEFAULT_ACCOUNT: &str = "default";

/// Fields of a spec that say how a Pod is scheduled and what is in it.
const PASSED_OVER: &[&str] = &[
    "activeDeadlineSeconds",
    "affinity",
    "automountServiceAccountToken",
    "dnsConfig",
    "dnsPolicy",
    "enableServiceLinks",
    "ephemeralContainers",
    "hostAliases",
    "hostIPC",
    "hostPID",
    "hostUsers",
    "hostname",
    "imagePullSecrets",
    "initContainers",
    "nodeSelector",
    "os",
    "overhead",
    "preemptionPolicy",
    "priority",
    "priorityClassName",
    "readinessGates",
    "resourceClaims",
    "resources",
    "restartPolicy",
    "runtimeClassName",
    "schedulerName",
    "schedulingGates",
    "securityContext",
    "serviceAccount",
    "setHostnameAsFQDN",
    "shareProcessNamespace",
    "subdomain",
    "terminationGracePeriodSeconds",
    "tolerations",
    "topologySpreadConstraints",
    "volumes",
];

#[derive(Debug)]
pub(in crate::control_plane) struct Pod {
    pub(in crate::control_plane) metadata: Metadata,
    pub(in crate::control_plane) account: String,
    /// Where the account is named.
    pub(in crate::control_plane) account_line: u32,
    /// Empty if it runs nowhere yet.
    pub(in crate::control_plane) node: String,
    pub(in crate::control_plane) is_host_network: bool,
    /// The ports that have names.
    pub(in crate::control_plane) ports: Vec<(String, u16)>,
    pub(in crate::control_plane) addresses: Vec<IpAddr>,
    pub(in crate::control_plane) has_ended: bool,
    pub(in crate::control_plane) is_ready: bool,
}

pub(super) fn read(metadata: Metadata, mut object: Object) -> Result<Pod, Problem> {
    let mut spec = object.required_object("spec")?;
    let account_line = spec.line_of("serviceAccountName");
    let account = spec.text("serviceAccountName")?;
    let account = account.unwrap_or_else(|| DEFAULT_ACCOUNT.to_owned());
    if !is_name(&account) {
        return Err(bad(account_line, &spec.path("serviceAccountName"), &account));
    }
    let mut pod = Pod {
        is_ready: !metadata.is_going,
        metadata,
        account,
        account_line,
        node: spec.text("nodeName")?.unwrap_or_default(),
        is_host_network: spec.flag("hostNetwork")?,
        ports: Vec::new(),
        addresses: Vec::new(),
        has_ended: false,
    };
    for mut container in spec.objects("containers")? {
        for mut port in container.objects("ports")? {
            let number = required_port(&mut port, "containerPort")?;
            let protocols = [("TCP", true), ("UDP", false), ("SCTP", false)];
            let is_tcp = port.word("protocol", &protocols)?.unwrap_or(true);
            if let Some(name) = port.text("name")?.filter(|_| is_tcp) {
                pod.ports.push((name, number));
            }
        }
    }
    spec.pass_over(PASSED_OVER);
    spec.finish()?;
    if let Some(status) = object.object("status")? {
        pod.read_status(status)?;
    }
    object.finish()?;
    Ok(pod)
}

impl Pod {
    /// Reads what is of interest: the cluster wrote it, and writes more with each version.
    fn read_status(&mut self, mut status: Object) -> Result<(), Problem> {
        let line = status.line_of("podIP");
        let first = status.text("podIP")?;
        if let Some(text) = &first {
            self.addresses.push(ip(line, "status.podIP", text)?);
        }
        for mut entry in status.objects("podIPs")? {
            let (line, path) = (entry.line_of("ip"), entry.path("ip"));
            let address = ip(line, &path, &entry.required_text("ip")?)?;
            if !self.addresses.contains(&address) {
                self.addresses.push(address);
            }
        }
        let phases = [
            ("Pending", (false, false)),
            ("Running", (false, true)),
            ("Unknown", (false, false)),
            ("Succeeded", (true, false)),
            ("Failed", (true, false)),
        ];
        let (has_ended, is_running) = status.word("phase", &phases)?.unwrap_or((false, true));
        self.has_ended = has_ended;
        self.is_ready &= is_running;
        for mut condition in status.objects("conditions")? {
            if condition.required_text("type")? == "Ready" {
                self.is_ready &= condition.required_text("status")? == "True";
            }
        }
        Ok(())
    }
}
