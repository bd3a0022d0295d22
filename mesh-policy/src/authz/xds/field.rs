use mesh_xds_types::security::{Address, Match, ServiceAccountMatch, StringMatch};

use crate::{authz::model::SourceField, facts::Attribute};

/// A field of a match, with its twin.
pub(super) enum Field<'m> {
    Texts(&'m mut Vec<StringMatch>),
    Accounts(&'m mut Vec<ServiceAccountMatch>),
    Addresses(&'m mut Vec<Address>),
    Ports(&'m mut Vec<u32>),
}

/// The field for an attribute that ztunnel knows.
pub(super) fn of<'m>(found: &'m mut Match, attribute: &Attribute, negated: bool) -> Option<Field<'m>> {
    Some(match (attribute, negated) {
        (Attribute::Namespace, false) => Field::Texts(&mut found.namespaces),
        (Attribute::Namespace, true) => Field::Texts(&mut found.not_namespaces),
        (Attribute::Principal, false) => Field::Texts(&mut found.principals),
        (Attribute::Principal, true) => Field::Texts(&mut found.not_principals),
        (Attribute::ServiceAccount, false) => Field::Accounts(&mut found.service_accounts),
        (Attribute::ServiceAccount, true) => Field::Accounts(&mut found.not_service_accounts),
        (Attribute::SourceIp, false) => Field::Addresses(&mut found.source_ips),
        (Attribute::SourceIp, true) => Field::Addresses(&mut found.not_source_ips),
        (Attribute::DestinationIp, false) => Field::Addresses(&mut found.destination_ips),
        (Attribute::DestinationIp, true) => Field::Addresses(&mut found.not_destination_ips),
        (Attribute::DestinationPort, false) => Field::Ports(&mut found.destination_ports),
        (Attribute::DestinationPort, true) => Field::Ports(&mut found.not_destination_ports),
        _ => return None,
    })
}

/// The field of a source that asks for an attribute.
pub(super) fn of_source(attribute: &Attribute) -> Option<SourceField> {
    SourceField::ALL
        .into_iter()
        .find(|field| field.attribute() == *attribute)
}
