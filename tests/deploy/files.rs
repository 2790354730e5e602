//! Containers, Kubernetes, the package: files that nothing here can run, as far as they can be judged.

use std::collections::BTreeSet;
use std::fs;
use std::process::Command;

use serde_json::Value;

use super::{read, shipped, yaml};
use crate::support::{Gateway, Mock, pool};

/// What the variables of the shipped configurations may be.
const VARIABLES: &str = "ADMIN_TOKEN=admin-token-of-a-test\nMETRICS_TOKEN=metrics-token-of-a-test\nOPENAI_KEY_A=a\n\
    OPENAI_KEY_B=b\nANTHROPIC_KEY_A=c\nPOSTGRES_PASSWORD=d\nREDIS_URL=redis://redis:6379\n\
    DATABASE_URL=postgres://u:p@postgres/poolgate\nSTATE_KEY=00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff\n";

#[track_caller]
fn checks(name: &str, text: &str) {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("poolgate.yaml"), text).unwrap();
    fs::write(folder.path().join("variables"), VARIABLES).unwrap();
    let run = Command::new(env!("CARGO_BIN_EXE_poolgate"))
        .args(["check", "--env-file", "variables"])
        .current_dir(folder.path())
        .env_clear()
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&run.stderr);
    assert!(run.status.success() && said.is_empty(), "{name}: {said}");
}

/// Rows 4-16, 4-20, 4-60 of the checklist.
#[test]
fn the_containers_configurations_are_valid() {
    for name in ["poolgate.yaml", "shared.yaml", "deb/poolgate.yaml"] {
        checks(name, &read(name));
    }
    let compose = yaml("compose.yaml");
    let services = compose["services"].as_object().unwrap();
    let of = |profile: &str| -> BTreeSet<&str> {
        let all = services.iter();
        let of = all.filter(|(_, one)| {
            let profiles = one["profiles"].as_array();
            profiles.is_some_and(|all| all.contains(&Value::from(profile)))
        });
        of.map(|(name, _)| name.as_str()).collect()
    };
    assert_eq!(of("shared"), ["poolgate-2", "postgres", "redis"].into());
    assert_eq!(of("monitoring"), ["grafana", "prometheus"].into());
    let redis = services["redis"]["command"].to_string();
    assert!(
        redis.contains("noeviction"),
        "a slot may not be thrown out: {redis}"
    );
    let password = &services["postgres"]["environment"]["POSTGRES_PASSWORD"];
    assert_eq!(password, "${POSTGRES_PASSWORD:-}");
    grafana_wants_a_password(&services["grafana"]);
    for gateway in ["poolgate", "poolgate-2"] {
        let others = &services[gateway]["environment"]["GRAFANA_PASSWORD"];
        assert_eq!(others, "", "{gateway} need not know it");
    }
    for (name, one) in services {
        for volume in one["volumes"].as_array().into_iter().flatten() {
            let volume = volume.as_str().unwrap();
            // Written out beside compose.yaml, but for the one that .env names.
            if let Some(file) = volume
                .strip_prefix("./")
                .filter(|path| !path.starts_with("${"))
            {
                let file = file.split(':').next().unwrap();
                assert!(shipped(file).exists(), "{name}: {file}");
            }
        }
    }
    let example = read(".env.example");
    let text = read("compose.yaml") + &read("poolgate.yaml") + &read("shared.yaml");
    for part in text.split("${").skip(1) {
        let variable = part.split([':', '}']).next().unwrap();
        assert!(
            example.contains(&format!("\n{variable}=")),
            ".env.example lacks {variable}"
        );
    }
}

/// Its own default is known to everybody.
#[track_caller]
fn grafana_wants_a_password(grafana: &Value) {
    let entry = grafana["entrypoint"].as_array().unwrap();
    let entry: Vec<String> = entry
        .iter()
        // Compose reads `$$` as `$`.
        .map(|part| part.as_str().unwrap().replace("$$", "$"))
        .collect();
    let begin = |password: &str| {
        let mut command = Command::new(&entry[0]);
        command.args(&entry[1..]);
        command.env("GF_SECURITY_ADMIN_PASSWORD", password);
        command.output().unwrap()
    };
    let refused = begin("");
    assert_eq!(refused.status.code(), Some(1));
    let said = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(said.contains("GRAFANA_PASSWORD is empty"), "{said}");
    // There is no Grafana here to go on with.
    assert_ne!(begin("one-of-your-own").status.code(), Some(1));
}

/// Row 4-73.
#[test]
fn the_manifests_fit_together() {
    let manifest = |name: &str| yaml(&format!("k8s/{name}.yaml"));
    let deployment = manifest("deployment");
    let spec = &deployment["spec"]["template"]["spec"];
    let container = &spec["containers"][0];
    assert_eq!(spec["securityContext"]["runAsNonRoot"], true);
    assert_eq!(spec["securityContext"]["fsGroup"], Value::Null);
    assert_eq!(container["readinessProbe"]["httpGet"]["path"], "/readyz");
    assert_eq!(container["livenessProbe"]["httpGet"]["path"], "/livez");
    for probe in ["livenessProbe", "startupProbe"] {
        assert_eq!(container[probe]["httpGet"]["port"], "admin", "{probe}");
    }
    let ports: Vec<&Value> = container["ports"]
        .as_array()
        .unwrap()
        .iter()
        .map(|port| &port["name"])
        .collect();
    let entrance = manifest("service");
    assert!(ports.contains(&&entrance["spec"]["ports"][0]["targetPort"]));
    fits_the_image(container, &ports);
    let labels = &deployment["spec"]["template"]["metadata"]["labels"];
    for selector in [
        &deployment["spec"]["selector"]["matchLabels"],
        &entrance["spec"]["selector"],
        &manifest("poddisruptionbudget")["spec"]["selector"]["matchLabels"],
    ] {
        assert_eq!(selector, labels);
    }
    let configuration = manifest("configmap")["data"]["poolgate.yaml"]
        .as_str()
        .unwrap()
        .to_owned();
    checks("configmap.yaml", &configuration);
    let secret = manifest("secret");
    for part in configuration.split("${").skip(1) {
        let variable = part.split('}').next().unwrap();
        assert!(
            secret["stringData"][variable].is_string(),
            "secret.yaml lacks {variable}"
        );
    }
    let listed = manifest("kustomization");
    for file in listed["resources"].as_array().unwrap() {
        assert!(
            shipped("k8s").join(file.as_str().unwrap()).exists(),
            "{file}"
        );
    }
}

#[test]
fn the_image_runs_as_nobody_and_says_whether_it_can_serve() {
    let text = read("Dockerfile");
    let lines: Vec<&str> = text.lines().collect();
    for line in [
        "USER 10001:10001",
        "ENTRYPOINT [\"poolgate\"]",
        "CMD [\"run\"]",
    ] {
        assert!(lines.contains(&line), "{line}");
    }
    assert!(text.contains("CMD [\"poolgate\", \"healthcheck\"]"));
    let wanted = include_str!("../../Cargo.toml")
        .lines()
        .find_map(|line| line.strip_prefix("rust-version = "));
    let wanted = wanted.unwrap().trim_matches('"');
    assert!(
        text.contains(&format!("FROM rust:{wanted}-bookworm")),
        "the Rust that Cargo.toml asks for"
    );
}

#[test]
fn the_package_has_what_it_names() {
    let text = include_str!("../../Cargo.toml");
    let assets = text
        .split("assets = [")
        .nth(1)
        .unwrap()
        .split("\n]")
        .next()
        .unwrap();
    for line in assets
        .lines()
        .filter_map(|line| line.trim().strip_prefix("[\""))
    {
        let file = line.split('"').next().unwrap();
        let made = file.starts_with("target/");
        let folder = file.split("/*").next().unwrap();
        assert!(made || shipped("..").join(folder).exists(), "{file}");
    }
}

/// What the pods are told of the image is what it is, and what they ask it is what it answers.
#[track_caller]
fn fits_the_image(container: &Value, ports: &[&Value]) {
    let image = read("Dockerfile");
    let name = container["image"].as_str().unwrap();
    assert!(image.contains(&format!("-t {}", name.split(':').next().unwrap())));
    for port in container["ports"].as_array().unwrap() {
        let number = port["containerPort"].to_string();
        let exposed = image.lines().find(|line| line.starts_with("EXPOSE "));
        assert!(
            exposed.unwrap().split(' ').any(|one| one == number),
            "{number}"
        );
    }
    let mounted: Vec<&Value> = container["volumeMounts"]
        .as_array()
        .unwrap()
        .iter()
        .map(|mount| &mount["mountPath"])
        .collect();
    for folder in ["/etc/poolgate", "/var/lib/poolgate"] {
        assert!(mounted.contains(&&Value::from(folder)) && image.contains(folder));
    }
    let vendor = Mock::start(&[]);
    let gateway = Gateway::start(&pool(std::slice::from_ref(&vendor), ""));
    gateway.wait_until_ready();
    for probe in ["readinessProbe", "livenessProbe", "startupProbe"] {
        let asked = &container[probe]["httpGet"];
        assert!(ports.contains(&&asked["port"]), "{probe}: {asked}");
        let path = asked["path"].as_str().unwrap();
        assert_eq!(gateway.get(path).status, 200, "{probe}: {path}");
    }
}

/// Row 4-72: `docker stack config` takes it, too, which no test can ask where there is no Docker.
#[test]
fn the_file_for_a_swarm_names_what_is_there() {
    let stack = yaml("stack.yaml");
    let gateway = &stack["services"]["poolgate"];
    assert_eq!(gateway["image"], "poolgate");
    for known in [
        "build",
        "profiles",
        "restart",
        "container_name",
        "depends_on",
    ] {
        assert_eq!(gateway[known], Value::Null, "{known} is nothing to a swarm");
    }
    let limits = &gateway["deploy"]["resources"]["limits"];
    assert_eq!(limits["memory"], "2G");
    let config = &gateway["configs"][0];
    assert_eq!(config["target"], "/etc/poolgate/poolgate.yaml");
    let source = config["source"].as_str().unwrap();
    let file = stack["configs"][source]["file"].as_str().unwrap();
    assert!(shipped(file.trim_start_matches("./")).exists(), "{file}");
    let volume = gateway["volumes"][0].as_str().unwrap();
    let (name, place) = volume.split_once(':').unwrap();
    assert!(stack["volumes"].get(name).is_some() && read("Dockerfile").contains(place));
}
