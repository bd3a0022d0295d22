//! JWT-SVIDs.

use mesh_identity::jwt::{JwtError, JwtValidator};
use rustls::pki_types::UnixTime;

use crate::spire::{Server, Workload};
use crate::world::eventually;

#[tokio::test]
async fn tokens_are_issued_and_hold_where_they_are_addressed_to() {
    let spire = Server::start("mesh.example").await;
    let (agent, id) = (spire.agent("/near").await, spire.id("/client"));
    spire.register("/near", &id, 3600, &[]);
    let workload = Workload::of(&agent).await;

    let issued = workload.api.fetch_jwt_svids(&["reviews"], Some(&id)).await.unwrap();
    let [issued] = issued.as_slice() else {
        panic!("{issued:?}")
    };
    assert_eq!((issued.id(), issued.audiences()), (&id, &["reviews".to_owned()][..]));
    let told = workload.api.validate_jwt_svid("reviews", issued.token()).await;
    assert_eq!(told.unwrap(), id);
    workload
        .api
        .validate_jwt_svid("ratings", issued.token())
        .await
        .unwrap_err();

    let follower = workload.api.jwt_bundles().unwrap();
    let known = async || follower.bundles().get(&spire.trust_domain).map(|_| ());
    eventually("JWT authorities", known).await;
    let provider = mesh_identity::provider::aws_lc_rs();
    let validate = |audience: &str| {
        let algorithms = provider.signature_verification_algorithms.all;
        JwtValidator::new(audience).validate(issued.token(), &follower.bundles(), UnixTime::now(), algorithms)
    };
    assert_eq!(validate("reviews").unwrap().id(), &id);
    assert!(matches!(validate("ratings").unwrap_err(), JwtError::Audience));
}
