use mesh_xds_types::security::{
    Address, Authorization, Clause, Match, Rule, ServiceAccountMatch, StringMatch, string_match::MatchType,
};

use super::fault::Located;
use super::fields::{Fields, flag, items, network_address, number, one_of, text, unsupported};
use super::node::{Node, Value};

pub(super) fn read(node: &Node) -> Located<Authorization> {
    let mut fields = Fields::new(node, "policies")?;
    let scopes = ["Global", "Namespace", "WorkloadSelector"];
    let rules = items(Some(fields.require("rules")?), "rules")?;
    let policy = Authorization {
        name: fields.text("name")?,
        namespace: fields.text("namespace")?,
        // What a policy is about and does has no default that is safe.
        scope: one_of(fields.require("scope")?, "scope", &scopes, "a scope")?,
        action: one_of(
            fields.require("action")?,
            "action",
            &["Allow", "Deny"],
            "`Allow` or `Deny`",
        )?,
        rules: rules.iter().map(rule).collect::<Result<_, _>>()?,
        dry_run: flag(fields.require("dryRun")?, "dryRun")?,
        extensions: Vec::new(),
    };
    fields.end()?;
    Ok(policy)
}

fn rule(node: &Node) -> Located<Rule> {
    let clauses = items(Some(node), "rules")?.iter().map(|node| {
        let matches = items(Some(node), "rules")?.iter().map(one_match);
        Ok(Clause {
            matches: matches.collect::<Result<_, _>>()?,
        })
    });
    Ok(Rule {
        clauses: clauses.collect::<Result<_, _>>()?,
    })
}

fn one_match(node: &Node) -> Located<Match> {
    let mut fields = Fields::new(node, "rules")?;
    let found = Match {
        namespaces: list(&mut fields, "namespaces", string)?,
        not_namespaces: list(&mut fields, "notNamespaces", string)?,
        principals: list(&mut fields, "principals", string)?,
        not_principals: list(&mut fields, "notPrincipals", string)?,
        source_ips: list(&mut fields, "sourceIps", block)?,
        not_source_ips: list(&mut fields, "notSourceIps", block)?,
        destination_ips: list(&mut fields, "destinationIps", block)?,
        not_destination_ips: list(&mut fields, "notDestinationIps", block)?,
        destination_ports: list(&mut fields, "destinationPorts", number)?,
        not_destination_ports: list(&mut fields, "notDestinationPorts", number)?,
        service_accounts: list(&mut fields, "serviceAccounts", account)?,
        not_service_accounts: list(&mut fields, "notServiceAccounts", account)?,
        extensions: Vec::new(),
    };
    fields.end()?;
    Ok(found)
}

fn list<T>(fields: &mut Fields<'_>, field: &str, read: fn(&Node, &str) -> Located<T>) -> Located<Vec<T>> {
    items(fields.take(field), field)?
        .iter()
        .map(|node| read(node, field))
        .collect()
}

fn string(node: &Node, field: &str) -> Located<StringMatch> {
    const EXPECTED: &str = "`exact`, `prefix`, `suffix` or `presence`";
    let kind = match &node.value {
        Value::Text(kind) if kind.eq_ignore_ascii_case("presence") => MatchType::Presence(()),
        Value::Fields(fields) => match fields.as_slice() {
            [(kind, value)] => match kind.to_ascii_lowercase().as_str() {
                "exact" => MatchType::Exact(text(value, kind)?),
                "prefix" => MatchType::Prefix(text(value, kind)?),
                "suffix" => MatchType::Suffix(text(value, kind)?),
                "presence" => MatchType::Presence(()),
                _ => return unsupported(value, field, EXPECTED),
            },
            _ => return unsupported(node, field, EXPECTED),
        },
        _ => return unsupported(node, field, EXPECTED),
    };
    Ok(StringMatch { match_type: Some(kind) })
}

/// An address with or without the length of a block.
fn block(node: &Node, field: &str) -> Located<Address> {
    let with_network = Node {
        line: node.line,
        value: Value::Text(format!("/{}", text(node, field)?)),
    };
    let block = network_address(&with_network, field).or_else(|_| unsupported(node, field, "a block of addresses"))?;
    let bits = if block.address.len() == 4 { 32 } else { 128 };
    let length = block.length.unwrap_or(bits);
    if length > bits {
        return unsupported(node, field, "a block of addresses");
    }
    Ok(Address {
        address: block.address,
        length,
    })
}

fn account(node: &Node, field: &str) -> Located<ServiceAccountMatch> {
    let mut fields = Fields::new(node, field)?;
    let account = ServiceAccountMatch {
        namespace: text(fields.require("namespace")?, "namespace")?,
        service_account: text(fields.require("serviceAccount")?, "serviceAccount")?,
    };
    fields.end()?;
    Ok(account)
}
