//! What is wrong with a configuration, in one line.

use std::fs;

use crate::cluster::{configuration, waypoint};
use crate::nodes::World;
use crate::world::Process;

#[tokio::test]
async fn a_mistake_is_named_with_its_file_and_line() {
    let world = World::new();
    world.write("");
    let folder = world.pki.path().join("objects");
    fs::create_dir(&folder).unwrap();
    let file = folder.join("a.yaml");
    fs::write(&file, "apiVersion: gateway.networking.k8s.io/v1\nkind: HTTPRoute\nmetadata: {name: a, namespace: b}\nspec: {rule: []}\n").unwrap();
    let config = world.pki.path().join("waypoint.toml");
    let text = configuration(&world, &folder.display().to_string(), "");
    for (text, expected) in [
        (text.clone(), format!("{}:4", file.display())),
        (
            text.replace("drain_seconds", "drain_second"),
            "waypoint.toml, line ".to_owned(),
        ),
        (text.replace("identity.pem", "missing.pem"), "missing.pem".to_owned()),
    ] {
        fs::write(&config, text).unwrap();
        let (code, stderr) = Process::start(&mut waypoint(&config)).end().await;
        assert_eq!((code, stderr.len()), (Some(2), 1), "{stderr:?}");
        assert!(
            stderr[0].starts_with("waypoint: ") && stderr[0].contains(&expected),
            "{stderr:?}"
        );
    }
}
