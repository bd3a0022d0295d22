//! Handshakes in memory: who gets through, who does not, and what is said about it.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    missing_docs,
    reason = "test code"
)]

mod support;

use std::{io, sync::Arc};

use mesh_identity::{
    DenyReason, PeerPolicy, TrustBundle, TrustBundles, VerifyError, provider,
    source::dev_ca::{DevCa, Extension, Template},
    tls::{Blame, BuildError, ClientTls, HandshakeError, ServerTls, Unsupported},
};
use rustls::{
    AlertDescription, ClientConfig, HandshakeKind, NamedGroup, ProtocolVersion, ServerConfig, client::Resumption,
    server::ServerSessionMemoryCache,
};
use support::*;

fn trust(ca: &DevCa) -> TrustBundles {
    ca.bundle().unwrap().into()
}

fn members() -> PeerPolicy {
    PeerPolicy::member_of(td(TD))
}

fn sides(ca: &DevCa) -> (ClientTls, ServerTls) {
    (client(ca, trust(ca), members()), server(ca, trust(ca), members()))
}

/// What the server says about the client of a handshake that completed or failed.
fn of_client(server: &ServerTls, pair: &mut Pair) -> Result<mesh_identity::VerifiedPeer, HandshakeError> {
    let (_, outcome) = pair.run();
    outcome.map_err(|error| HandshakeError::from_rustls(&error))?;
    server.verified_peer(&pair.server)
}

/// The same with the sides exchanged.
fn of_server(client: &ClientTls, pair: &mut Pair) -> Result<mesh_identity::VerifiedPeer, HandshakeError> {
    let (outcome, _) = pair.run();
    outcome.map_err(|error| HandshakeError::from_rustls(&error))?;
    client.verified_peer(&pair.client)
}

#[test]
fn both_sides_learn_who_the_other_is() {
    let ca = ca(TD).intermediate(now()).unwrap();
    let (client, server) = sides(&ca);
    let mut pair = Pair::new(client.config(), server.config());
    assert_eq!(pair.run(), (Ok(()), Ok(())));
    let seen = server.verified_peer(&pair.server).unwrap();
    assert_eq!(seen.id(), client.identity().id());
    assert_eq!(seen.chain(), client.identity().chain());
    assert_eq!(client.verified_peer(&pair.client).unwrap().id(), server.identity().id());
    assert_eq!(pair.client.protocol_version(), Some(ProtocolVersion::TLSv1_3));
    assert_eq!(pair.client.alpn_protocol(), Some(&b"h2"[..]));
}

#[test]
fn the_first_key_exchange_is_post_quantum_and_costs_no_round_trip() {
    let (client, server) = sides(&ca(TD));
    let mut pair = Pair::new(client.config(), server.config());
    pair.run().0.unwrap();
    assert_eq!(pair.client.handshake_kind(), Some(HandshakeKind::Full));
    let group = pair.server.negotiated_key_exchange_group().unwrap().name();
    assert_eq!(group, NamedGroup::X25519MLKEM768);
    let groups: Vec<_> = provider::aws_lc_rs()
        .kx_groups
        .iter()
        .map(|group| group.name())
        .collect();
    assert_eq!(groups, [NamedGroup::X25519MLKEM768, NamedGroup::X25519]);
}

#[test]
fn ring_works_with_itself_and_with_aws_lc_rs() {
    let ca = ca(TD);
    let by_ring = |id: &str| {
        let provider = provider::ring();
        let issued = ca.issue(&support::id(id), now()).unwrap();
        (Arc::clone(&provider), Arc::new(issued.svid(&provider, now()).unwrap()))
    };
    let (provider, svid) = by_ring("spiffe://cluster.local/ring/client");
    let client = ClientTls::builder(provider)
        .identity(svid)
        .trust(Arc::new(trust(&ca)))
        .authorize(members())
        .clock(Arc::new(Still(now())))
        .build()
        .unwrap();
    let (provider, svid) = by_ring("spiffe://cluster.local/ring/server");
    let server = ServerTls::builder(provider)
        .identity(svid)
        .trust(Arc::new(trust(&ca)))
        .authorize(members())
        .clock(Arc::new(Still(now())))
        .build()
        .unwrap();
    let (other_client, other_server) = sides(&ca);
    for (client, server) in [(&client, &server), (&client, &other_server), (&other_client, &server)] {
        let mut pair = Pair::new(client.config(), server.config());
        assert_eq!(pair.run(), (Ok(()), Ok(())));
        assert!(server.verified_peer(&pair.server).is_ok());
        let group = pair.server.negotiated_key_exchange_group().unwrap().name();
        assert_eq!(group, NamedGroup::X25519);
    }
}

#[test]
fn no_server_name_goes_out_even_if_one_is_given() {
    let ca = ca(TD);
    let (client, _) = sides(&ca);
    let mut config = careless_server(&ca.issue(&workload(), now()).unwrap());
    let seen = Arc::new(SeenName::new(Arc::clone(&config.cert_resolver)));
    config.cert_resolver = Arc::clone(&seen) as _;
    let config = Arc::new(config);
    for name in [client.server_name(), "shop.example".try_into().unwrap()] {
        let mut pair = Pair::named(client.config(), Arc::clone(&config), name);
        pair.run().0.unwrap();
        assert!(!pair.sent.windows(4).any(|bytes| bytes == b"shop"));
    }
    assert_eq!(seen.names(), [None, None]);
}

#[test]
fn nothing_can_be_resumed() {
    let ca = ca(TD);
    let (client, server) = sides(&ca);
    for _ in 0..3 {
        let mut pair = Pair::new(client.config(), server.config());
        pair.run().1.unwrap();
        assert_eq!(pair.server.handshake_kind(), Some(HandshakeKind::Full));
        assert_eq!(pair.client.tls13_tickets_received(), 0);
    }
    // A client that would resume gets no ticket from this server.
    let eager = Arc::new(careless_client(Some(&ca.issue(&workload(), now()).unwrap())));
    for _ in 0..2 {
        let mut pair = Pair::new(Arc::clone(&eager), server.config());
        pair.run().1.unwrap();
        assert_eq!(pair.client.tls13_tickets_received(), 0);
        assert_eq!(pair.server.handshake_kind(), Some(HandshakeKind::Full));
    }
    // A server that would resume gets no offer from this client.
    let generous = Arc::new(careless_server(&ca.issue(&workload(), now()).unwrap()));
    for _ in 0..2 {
        let mut pair = Pair::new(client.config(), Arc::clone(&generous));
        pair.run().0.unwrap();
        assert_eq!(pair.client.handshake_kind(), Some(HandshakeKind::Full));
    }
}

#[test]
fn a_resumed_connection_has_no_verified_peer() {
    let ca = ca(TD);
    let (client, server) = sides(&ca);
    // Both configurations with the safeguards undone.
    let mut lax_client = ClientConfig::clone(&client.config());
    lax_client.resumption = Resumption::in_memory_sessions(8);
    let mut lax_server = ServerConfig::clone(&server.config());
    lax_server.session_storage = ServerSessionMemoryCache::new(8);
    lax_server.send_tls13_tickets = 1;
    let (lax_client, lax_server) = (Arc::new(lax_client), Arc::new(lax_server));
    let mut first = Pair::new(Arc::clone(&lax_client), Arc::clone(&lax_server));
    first.run().1.unwrap();
    let mut second = Pair::new(lax_client, lax_server);
    second.run().1.unwrap();
    assert_eq!(second.server.handshake_kind(), Some(HandshakeKind::Resumed));
    assert_eq!(server.verified_peer(&second.server), Err(HandshakeError::Resumed));
    assert_eq!(client.verified_peer(&second.client), Err(HandshakeError::Resumed));
}

#[test]
fn clients_with_broken_certificates_are_refused() {
    let ca = ca(TD);
    let server = server(&ca, trust(&ca), members());
    for vector in broken_leaves(&ca).into_iter().chain(broken_issuers(&ca)) {
        let outcome = of_client(
            &server,
            &mut Pair::new(
                client_claiming(vector.issued.chain().to_vec(), &vector.issued),
                server.config(),
            ),
        );
        let found = outcome.as_ref().err().map_or("", HandshakeError::reason);
        assert_eq!(found, vector.as_client, "{}: {outcome:?}", vector.name);
    }
}

#[test]
fn servers_with_broken_certificates_are_refused() {
    let ca = ca(TD);
    let client = client(&ca, trust(&ca), members());
    for vector in broken_leaves(&ca).into_iter().chain(broken_issuers(&ca)) {
        let config = server_showing(&vector.issued);
        let outcome = of_server(&client, &mut Pair::new(client.config(), config));
        let found = outcome.as_ref().err().map_or("", HandshakeError::reason);
        assert_eq!(found, vector.as_server, "{}: {outcome:?}", vector.name);
    }
}

#[test]
fn the_refused_side_is_told_by_an_alert() {
    let ca = ca(TD);
    let server = server(&ca, trust(&ca), PeerPolicy::one_of([]));
    let client = client(&ca, trust(&ca), members());
    let mut pair = Pair::new(client.config(), server.config());
    let (of_client, of_server) = pair.run();
    assert_eq!(HandshakeError::from_rustls(&of_server.unwrap_err()).reason(), "denied");
    let error = HandshakeError::from_rustls(&of_client.unwrap_err());
    assert_eq!(error, HandshakeError::Alert(AlertDescription::CertificateUnknown));
    assert_eq!(
        error.to_string(),
        "the peer refused with TLS alert `certificate_unknown`"
    );
}

#[test]
fn policies_are_applied_on_both_sides() {
    let ca = ca(TD);
    let (cart, till) = (workload(), id("spiffe://cluster.local/ns/shop/sa/till"));
    for (policy, reason) in [
        (PeerPolicy::exact(till.clone()), Some(DenyReason::NotListed)),
        (PeerPolicy::member_of(td("other")), Some(DenyReason::TrustDomain)),
        (PeerPolicy::exact(cart.clone()), None),
        (PeerPolicy::any_authenticated(), None),
    ] {
        let server = server(&ca, trust(&ca), policy);
        let client = client(&ca, trust(&ca), members());
        match (
            of_client(&server, &mut Pair::new(client.config(), server.config())),
            reason,
        ) {
            (Ok(peer), None) => assert_eq!(peer.id(), &cart),
            (Err(HandshakeError::Denied(denied)), Some(reason)) => {
                assert_eq!((denied.peer(), denied.reason()), (&cart, reason));
            }
            other => panic!("{other:?}"),
        }
    }
    for (policy, permitted) in [(PeerPolicy::exact(cart), false), (PeerPolicy::exact(till), true)] {
        let server = server(&ca, trust(&ca), members());
        let client = client(&ca, trust(&ca), policy);
        let outcome = of_server(&client, &mut Pair::new(client.config(), server.config()));
        assert_eq!(outcome.is_ok(), permitted, "{outcome:?}");
    }
}

#[test]
fn a_trust_domain_is_not_believed_about_another() {
    let (ours, theirs) = (ca(TD), ca("other"));
    let both = || TrustBundles::new([ours.bundle().unwrap(), theirs.bundle().unwrap()]).unwrap();
    let server = server(&ours, both(), PeerPolicy::any_authenticated());
    let federated = client(&theirs, both(), PeerPolicy::any_authenticated());
    let peer = of_client(&server, &mut Pair::new(federated.config(), server.config())).unwrap();
    assert_eq!(peer.id().trust_domain(), &td("other"));

    let forged = theirs.issue_with(leaf()).unwrap();
    let outcome = of_client(&server, &mut Pair::new(careless_client(Some(&forged)), server.config()));
    assert_eq!(outcome, Err(VerifyError::UnknownIssuer { trust_domain: td(TD) }.into()));
    let outcome = of_server(&federated, &mut Pair::new(federated.config(), careless_server(&forged)));
    assert_eq!(outcome, Err(VerifyError::UnknownIssuer { trust_domain: td(TD) }.into()));
}

#[test]
fn a_forged_certificate_is_refused_as_such_whoever_was_expected() {
    let (ca, stranger) = (ca(TD), ca(TD));
    let forged = stranger.issue(&workload(), now()).unwrap();
    for policy in [
        PeerPolicy::exact(id("spiffe://cluster.local/somebody/else")),
        PeerPolicy::exact(workload()),
        PeerPolicy::any_authenticated(),
    ] {
        let server = server(&ca, trust(&ca), policy.clone());
        let outcome = of_client(&server, &mut Pair::new(careless_client(Some(&forged)), server.config()));
        assert_eq!(outcome, Err(VerifyError::UnknownIssuer { trust_domain: td(TD) }.into()));
        let client = client(&ca, trust(&ca), policy);
        let outcome = of_server(&client, &mut Pair::new(client.config(), careless_server(&forged)));
        assert_eq!(outcome, Err(VerifyError::UnknownIssuer { trust_domain: td(TD) }.into()));
    }
}

#[test]
fn a_root_that_may_not_sign_for_a_trust_domain_is_refused_by_both_sides() {
    let root = Template {
        more: vec![Extension::uri_constraints(&["other"], &[])],
        ..authority()
    };
    let (constrained, ca) = (DevCa::root(td(TD), root).unwrap(), ca(TD));
    let issued = constrained.issue(&workload(), now()).unwrap();
    let server = server(&ca, trust(&constrained), PeerPolicy::any_authenticated());
    let outcome = of_client(&server, &mut Pair::new(careless_client(Some(&issued)), server.config()));
    assert_eq!(outcome, Err(VerifyError::NameConstraint.into()));
    let client = client(&ca, trust(&constrained), PeerPolicy::any_authenticated());
    let outcome = of_server(&client, &mut Pair::new(client.config(), careless_server(&issued)));
    assert_eq!(outcome, Err(VerifyError::NameConstraint.into()));
}

#[test]
fn an_empty_bundle_distrusts_both_sides() {
    let ca = ca(TD);
    let empty = || TrustBundles::from(TrustBundle::new(td(TD), []).unwrap());
    let distrustful = server(&ca, empty(), members());
    let outcome = of_client(
        &distrustful,
        &mut Pair::new(sides(&ca).0.config(), distrustful.config()),
    );
    assert_eq!(outcome, Err(VerifyError::EmptyBundle { trust_domain: td(TD) }.into()));
    let distrustful = client(&ca, empty(), members());
    let outcome = of_server(
        &distrustful,
        &mut Pair::new(distrustful.config(), sides(&ca).1.config()),
    );
    assert_eq!(outcome, Err(VerifyError::EmptyBundle { trust_domain: td(TD) }.into()));
}

#[test]
fn a_client_without_a_certificate_is_refused() {
    let ca = ca(TD);
    let server = server(&ca, trust(&ca), PeerPolicy::any_authenticated());
    let mut pair = Pair::new(careless_client(None), server.config());
    assert_eq!(of_client(&server, &mut pair), Err(HandshakeError::NoPeerCertificate));
}

#[test]
fn a_stolen_certificate_without_its_key_is_refused() {
    let ca = ca(TD);
    let (client, server) = sides(&ca);
    let stolen = client.identity().chain().to_vec();
    // Once rightfully, so that a verdict about the chain is at hand.
    Pair::new(client.config(), server.config()).run().1.unwrap();
    let own = ca.issue(&id("spiffe://cluster.local/thief"), now()).unwrap();
    let mut pair = Pair::new(client_claiming(stolen.clone(), &own), server.config());
    assert_eq!(
        of_client(&server, &mut pair),
        Err(HandshakeError::BadHandshakeSignature)
    );
    assert!(server.verified_peer(&pair.server).is_err());

    let mut pair = Pair::new(client.config(), server_claiming(stolen, &own));
    assert_eq!(
        of_server(&client, &mut pair),
        Err(HandshakeError::BadHandshakeSignature)
    );
}

#[test]
fn both_sides_insist_on_h2() {
    let ca = ca(TD);
    let (client, server) = sides(&ca);
    let issued = ca.issue(&workload(), now()).unwrap();
    for protocols in [vec![], vec![b"http/1.1".to_vec()]] {
        let mut peer = careless_client(Some(&issued));
        peer.alpn_protocols = protocols.clone();
        let outcome = of_client(&server, &mut Pair::new(peer, server.config()));
        assert_eq!(outcome, Err(HandshakeError::NoApplicationProtocol));
        let mut peer = careless_server(&issued);
        peer.alpn_protocols = protocols;
        let outcome = of_server(&client, &mut Pair::new(client.config(), peer));
        assert_eq!(outcome, Err(HandshakeError::NoApplicationProtocol));
    }
}

#[test]
fn a_client_that_offers_only_tls12_is_refused() {
    let (_, server) = sides(&ca(TD));
    let mut connection = rustls::ServerConnection::new(server.config()).unwrap();
    connection.read_tls(&mut &TLS12_CLIENT_HELLO[..]).unwrap();
    let error = HandshakeError::from_rustls(&connection.process_new_packets().unwrap_err());
    assert_eq!(error, HandshakeError::Unsupported(Unsupported::Version));
    assert_eq!(error.to_string(), "the peer supports no common TLS version");
}

#[test]
fn a_server_that_answers_with_tls12_is_refused() {
    let (client, _) = sides(&ca(TD));
    let mut connection = rustls::ClientConnection::new(client.config(), client.server_name()).unwrap();
    connection.read_tls(&mut &TLS12_SERVER_HELLO[..]).unwrap();
    let error = HandshakeError::from_rustls(&connection.process_new_packets().unwrap_err());
    assert_eq!(error, HandshakeError::Unsupported(Unsupported::Version));
}

#[test]
fn plaintext_is_recognised() {
    let (client, server) = sides(&ca(TD));
    let mut connection = rustls::ServerConnection::new(server.config()).unwrap();
    connection
        .read_tls(&mut &b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"[..])
        .unwrap();
    let error = connection.process_new_packets().unwrap_err();
    assert_eq!(HandshakeError::from_rustls(&error), HandshakeError::NotTls);
    let mut connection = rustls::ClientConnection::new(client.config(), client.server_name()).unwrap();
    connection
        .read_tls(&mut &b"HTTP/1.1 400 Bad Request\r\n\r\n"[..])
        .unwrap();
    let error = connection.process_new_packets().unwrap_err();
    assert_eq!(HandshakeError::from_rustls(&error), HandshakeError::NotTls);
}

#[test]
fn an_unfinished_handshake_has_no_peer() {
    let (client, server) = sides(&ca(TD));
    let mut pair = Pair::new(client.config(), server.config());
    assert_eq!(client.verified_peer(&pair.client), Err(HandshakeError::Incomplete));
    assert_eq!(server.verified_peer(&pair.server), Err(HandshakeError::Incomplete));
    let mut hello = Vec::new();
    pair.client.write_tls(&mut hello).unwrap();
    pair.server.read_tls(&mut hello.as_slice()).unwrap();
    pair.server.process_new_packets().unwrap();
    assert_eq!(server.verified_peer(&pair.server), Err(HandshakeError::Incomplete));
}

#[test]
fn another_sides_connection_is_verified_by_ones_own_rules() {
    let (ours, theirs) = (ca(TD), ca("other"));
    let (client, server) = sides(&ours);
    let mut pair = Pair::new(client.config(), server.config());
    pair.run().1.unwrap();
    let stranger = support::server(&theirs, trust(&theirs), PeerPolicy::any_authenticated());
    assert_eq!(
        stranger.verified_peer(&pair.server),
        Err(VerifyError::UnknownTrustDomain { trust_domain: td(TD) }.into())
    );
    let strict = support::server(&ours, trust(&ours), PeerPolicy::one_of([]));
    assert_eq!(strict.verified_peer(&pair.server).unwrap_err().reason(), "denied");
}

#[test]
fn verdicts_are_not_mixed_up() {
    let ca = ca(TD);
    let server = server(&ca, trust(&ca), members());
    let names = ["a", "b", "c"].map(|name| id(&format!("spiffe://cluster.local/{name}")));
    let pairs = names.clone().map(|id| {
        let client = careless_client(Some(&ca.issue(&id, now()).unwrap()));
        let mut pair = Pair::new(client, server.config());
        pair.run().1.unwrap();
        pair
    });
    for (pair, name) in pairs.iter().zip(&names).rev() {
        assert_eq!(server.verified_peer(&pair.server).unwrap().id(), name);
    }
}

#[test]
fn a_handshake_verifies_a_chain_once() {
    let ca = ca(TD);
    let (provider, checked) = counting_provider();
    let server = server_with(&ca, trust(&ca), members(), provider, Arc::new(Still(now())));
    let (client, _) = sides(&ca);
    let mut pair = Pair::new(client.config(), server.config());
    pair.run().1.unwrap();
    // The leaf's and the handshake's.
    assert_eq!(checked(), 2);
    server.verified_peer(&pair.server).unwrap();
    assert_eq!(checked(), 2);
    server.verified_peer(&pair.server).unwrap();
    assert_eq!(checked(), 3);
}

#[test]
fn a_forgotten_verdict_is_found_again() {
    let ca = ca(TD);
    let (provider, checked) = counting_provider();
    let server = server_with(&ca, trust(&ca), members(), provider, Arc::new(Still(now())));
    let (client, _) = sides(&ca);
    let other = Arc::new(careless_client(Some(
        &ca.issue(&id("spiffe://cluster.local/other"), now()).unwrap(),
    )));
    let mut waiting = Pair::new(client.config(), server.config());
    waiting.run().1.unwrap();
    for _ in 0..512 {
        Pair::new(Arc::clone(&other), server.config()).run().1.unwrap();
    }
    let before = checked();
    assert_eq!(
        server.verified_peer(&waiting.server).unwrap().id(),
        client.identity().id()
    );
    assert_eq!(checked(), before + 1);
}

#[test]
fn certificates_are_judged_by_the_given_clock() {
    let ca = ca(TD);
    let last = at(now().as_secs() + 24 * 3600);
    let clock = Arc::new(Manual::default());
    let server = server_with(
        &ca,
        trust(&ca),
        members(),
        provider::aws_lc_rs(),
        Arc::clone(&clock) as _,
    );
    let (client, _) = sides(&ca);
    let attempt = || of_client(&server, &mut Pair::new(client.config(), server.config()));
    clock.set(Some(last));
    assert!(attempt().is_ok());
    clock.set(Some(at(last.as_secs() + 1)));
    assert_eq!(attempt(), Err(VerifyError::Expired { not_after: last }.into()));
    clock.set(None);
    assert_eq!(attempt(), Err(HandshakeError::NoClock));
}

#[test]
fn a_verdict_that_waited_too_long_has_expired() {
    let ca = ca(TD);
    let last = at(now().as_secs() + 24 * 3600);
    let clock = Arc::new(Manual::default());
    clock.set(Some(last));
    let server = server_with(
        &ca,
        trust(&ca),
        members(),
        provider::aws_lc_rs(),
        Arc::clone(&clock) as _,
    );
    let mut pair = Pair::new(sides(&ca).0.config(), server.config());
    pair.run().1.unwrap();
    clock.set(Some(at(last.as_secs() + 1)));
    let outcome = server.verified_peer(&pair.server);
    assert_eq!(outcome, Err(VerifyError::Expired { not_after: last }.into()));
}

#[test]
fn errors_survive_the_passage_through_io() {
    let ca = ca(TD);
    let server = server(&ca, trust(&support::ca(TD)), members());
    let mut pair = Pair::new(sides(&ca).0.config(), server.config());
    let error = pair.run().1.unwrap_err();
    let error = io::Error::new(io::ErrorKind::InvalidData, error);
    let error = HandshakeError::from_io(&error);
    assert_eq!(error, VerifyError::UnknownIssuer { trust_domain: td(TD) }.into());
    assert_eq!(error.blame(), Blame::Peer);
    let reset = HandshakeError::from_io(&io::ErrorKind::ConnectionReset.into());
    assert_eq!((reset.reason(), reset.blame()), ("io", Blame::Network));
    assert_eq!(
        HandshakeError::from_io(&io::ErrorKind::UnexpectedEof.into()),
        HandshakeError::Closed
    );
}

#[test]
fn a_provider_without_tls13_makes_no_configuration() {
    let ca = ca(TD);
    let svid = svid(&ca.issue(&workload(), now()).unwrap(), &provider::aws_lc_rs());
    let build = |change: fn(&mut rustls::crypto::CryptoProvider)| {
        let mut provider = (*provider::aws_lc_rs()).clone();
        change(&mut provider);
        ClientTls::builder(Arc::new(provider))
            .identity(Arc::clone(&svid))
            .trust(Arc::new(trust(&ca)))
            .authorize(members())
            .build()
            .map(drop)
    };
    assert_eq!(
        build(|provider| provider.cipher_suites.clear()),
        Err(BuildError::NoCipherSuite)
    );
    assert_eq!(
        build(|provider| provider.kx_groups.clear()),
        Err(BuildError::NoKeyExchange)
    );
    assert_eq!(build(|_| ()), Ok(()));
}

/// A handshake record with a ClientHello of TLS 1.2 with one suite, one curve and one scheme.
const TLS12_CLIENT_HELLO: &[u8] = &[
    22, 3, 1, 0, 67, 1, 0, 0, 63, 3, 3, // record, message, legacy version
    0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, // random
    16, 17, 18, 19, 20, 21, 22, 23, 24, 25, 26, 27, 28, 29, 30, 31, //
    0, 0, 2, 0xc0, 0x2b, 1, 0, // no session, one cipher suite, no compression
    0, 20, // extensions
    0, 10, 0, 4, 0, 2, 0, 29, // supported_groups: x25519
    0, 13, 0, 4, 0, 2, 4, 3, // signature_algorithms: ecdsa_secp256r1_sha256
    0, 23, 0, 0, // extended_master_secret
];

/// A handshake record with a ServerHello that names no version in an extension, so TLS 1.2.
const TLS12_SERVER_HELLO: &[u8] = &[
    22, 3, 3, 0, 44, 2, 0, 0, 40, 3, 3, // record, message, version
    0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, // random
    16, 17, 18, 19, 20, 21, 22, 23, 24, 25, 26, 27, 28, 29, 30, 31, //
    0, 0xc0, 0x2b, 0, // no session, cipher suite, no compression
    0, 0, // extensions
];
