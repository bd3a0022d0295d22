//! Subsets by labels that the mesh does not tell.

use std::fs;

use crate::cluster::Cluster;

const BY_TRACK: &str = "
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: till, namespace: shop}
spec: {hosts: [till.shop.svc], http: [{route: [{destination: {host: till.shop.svc, subset: new}}]}]}
---
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: {name: till, namespace: shop}
spec: {host: till.shop.svc, subsets: [{name: new, labels: {track: new}}]}
";

fn pod(name: &str, track: &str) -> String {
    format!("---\napiVersion: v1\nkind: Pod\nmetadata: {{name: {name}, namespace: shop, labels: {{track: {track}}}}}\n")
}

#[tokio::test]
async fn requests_go_to_the_endpoints_that_have_the_label_now() {
    let cluster = Cluster::start(BY_TRACK).await;
    let mesh = fs::read_to_string(&cluster.world.mesh_file).unwrap();
    let port = cluster.two.app.addr.port();
    let both = format!("services: {{shop/till.shop.svc: {{80: {port}}}, shop/two.shop.svc");
    cluster
        .world
        .write(&mesh.replace("services: {shop/two.shop.svc", &both));
    cluster.waypoint.says("mesh changed").await;
    let caller = cluster.call("cart").await;
    // Nobody is known to have it.
    assert_eq!(caller.get("/").await.status(), 503);
    for (times, (till, two, expected)) in [("new", "old", "one"), ("old", "new", "two")].into_iter().enumerate() {
        let objects = format!("{BY_TRACK}{}{}", pod("till", till), pod("two", two));
        cluster.change(&objects, times + 1).await;
        for _ in 0..10 {
            assert_eq!(caller.get("/").await.headers()["x-shop"], expected);
        }
    }
}
