//! `CycloneDX` 1.6 as JSON (<https://cyclonedx.org/docs/1.6/json/>).
//!
//! Packages are components with their files as components inside; what belongs to no package is
//! inside of the image's own component.

use serde::{Deserialize, Serialize};

use super::{OWN_NAME, Request, hex, person, purl};
use crate::inventory::{Item, Owner, PackageFacts, What};

pub(super) const OWNER: &str = "baker:owner";
pub(super) const PLACE: &str = "baker:place";
pub(super) const KIND: &str = "baker:kind";
pub(super) const TARGET: &str = "baker:target";
pub(super) const SIZE: &str = "baker:size";
pub(super) const AUTHENTICODE: &str = "baker:authenticode";
pub(super) const FILE: &str = "file";

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Document {
    #[serde(rename = "$schema")]
    schema: String,
    pub(super) bom_format: String,
    pub(super) spec_version: String,
    serial_number: String,
    version: u32,
    pub(super) metadata: Metadata,
    #[serde(default)]
    pub(super) components: Vec<Component>,
    #[serde(default)]
    dependencies: Vec<Dependency>,
}

#[derive(Serialize, Deserialize)]
pub(super) struct Metadata {
    timestamp: String,
    tools: Tools,
    pub(super) component: Component,
}

#[derive(Serialize, Deserialize)]
struct Tools {
    components: Vec<Component>,
}

#[derive(Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(super) struct Component {
    #[serde(rename = "type")]
    pub(super) kind: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    bom_ref: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    supplier: Option<Organisation>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    publisher: Option<String>,
    pub(super) name: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) version: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    description: Option<String>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(super) hashes: Vec<Hash>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    licenses: Vec<Licence>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) purl: Option<String>,
    #[serde(
        default,
        rename = "externalReferences",
        skip_serializing_if = "Vec::is_empty"
    )]
    references: Vec<Reference>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(super) properties: Vec<Property>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(super) components: Vec<Component>,
}

#[derive(Serialize, Deserialize)]
struct Organisation {
    name: String,
}

#[derive(Serialize, Deserialize)]
pub(super) struct Hash {
    pub(super) alg: String,
    pub(super) content: String,
}

#[derive(Serialize, Deserialize)]
struct Licence {
    expression: String,
}

#[derive(Serialize, Deserialize)]
struct Reference {
    #[serde(rename = "type")]
    kind: String,
    url: String,
}

#[derive(Serialize, Deserialize)]
pub(super) struct Property {
    pub(super) name: String,
    pub(super) value: String,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Dependency {
    #[serde(rename = "ref")]
    of: String,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    depends_on: Vec<String>,
}

pub(super) fn document(request: &Request<'_>) -> Document {
    let (recipe, inventory) = (request.recipe, request.inventory);
    let image_ref = format!("image:{}@{}", recipe.name, recipe.version);
    let mut components = vec![operating_system(request)];
    let packages = inventory.packages.iter();
    components.extend(packages.map(|facts| package(request, facts)));
    components.push(guest(request));
    let named = |component: &Component| component.bom_ref.clone();
    let parts: Vec<String> = components.iter().filter_map(named).collect();
    let leaves = parts.iter().map(|part| Dependency {
        of: part.clone(),
        depends_on: Vec::new(),
    });
    let leaves: Vec<_> = leaves.collect();
    let whole = Dependency {
        of: image_ref.clone(),
        depends_on: parts,
    };
    Document {
        schema: "http://cyclonedx.org/schema/bom-1.6.schema.json".to_owned(),
        bom_format: "CycloneDX".to_owned(),
        spec_version: "1.6".to_owned(),
        serial_number: format!("urn:uuid:{}", request.uuid("CycloneDX")),
        version: 1,
        metadata: Metadata {
            timestamp: request.created(),
            tools: Tools {
                components: vec![component("application", "baker", request.baker_version)],
            },
            component: Component {
                bom_ref: Some(image_ref),
                description: Some(recipe.summary.clone()).filter(|text| !text.is_empty()),
                components: ownerless(request),
                ..component("platform", &recipe.name, &recipe.version)
            },
        },
        components,
        dependencies: [whole].into_iter().chain(leaves).collect(),
    }
}

/// What scanners choose their advisories by.
fn operating_system(request: &Request<'_>) -> Component {
    let name = request
        .os_field("ID")
        .unwrap_or_else(|| "debian".to_owned());
    let version = request.os_field("VERSION_ID").unwrap_or_default();
    Component {
        bom_ref: Some(format!("os:{name}")),
        ..component("operating-system", &name, &version)
    }
}

fn guest(request: &Request<'_>) -> Component {
    let purl = purl::of_guest(request.baker_version);
    Component {
        bom_ref: Some(purl.clone()),
        purl: Some(purl),
        supplier: Some(Organisation {
            name: OWN_NAME.to_owned(),
        }),
        hashes: vec![sha256(request.guest().as_bytes())],
        licenses: vec![Licence {
            expression: env!("CARGO_PKG_LICENSE").to_owned(),
        }],
        components: files(request, &Owner::Guest),
        ..component("application", "baker-guest", request.baker_version)
    }
}

fn package(request: &Request<'_>, facts: &PackageFacts) -> Component {
    let lock = &facts.lock;
    let purl = purl::of_package(facts, &request.recipe.debian.suite);
    let expressions = facts.licensing.expression.iter();
    let homepage = facts.homepage.iter().filter(|url| url.starts_with("http"));
    let role = lock.role.name();
    Component {
        bom_ref: Some(purl.clone()),
        supplier: Some(Organisation {
            name: "Debian".to_owned(),
        }),
        publisher: Some(person(&facts.maintainer).0.to_owned()).filter(|name| !name.is_empty()),
        description: Some(facts.summary.clone()).filter(|text| !text.is_empty()),
        hashes: vec![sha256(lock.sha256.as_bytes())],
        licenses: expressions
            .map(|expression| Licence {
                expression: expression.clone(),
            })
            .collect(),
        purl: Some(purl),
        references: homepage
            .map(|url| Reference {
                kind: "website".to_owned(),
                url: url.clone(),
            })
            .collect(),
        properties: vec![
            property("baker:role", role),
            property("baker:source-package", &facts.source),
            property("baker:source-version", &facts.source_version),
        ],
        components: files(request, &Owner::Package(lock.name.as_str().into())),
        ..component("library", &lock.name, &lock.version)
    }
}

fn files(request: &Request<'_>, owner: &Owner) -> Vec<Component> {
    request.inventory.of(owner).map(file).collect()
}

/// The files that neither a package nor the guest program brings.
fn ownerless(request: &Request<'_>) -> Vec<Component> {
    let items = request.inventory.items.iter();
    let others = items.filter(|item| !matches!(item.owner, Owner::Package(_) | Owner::Guest));
    others.map(file).collect()
}

fn file(item: &Item) -> Component {
    let mut properties = vec![
        property(OWNER, &item.owner.to_string()),
        property(PLACE, item.place.name()),
    ];
    match &item.what {
        What::File(_) => properties.push(property(KIND, FILE)),
        What::Program(_, digest) => {
            properties.push(property(KIND, FILE));
            properties.push(property(AUTHENTICODE, &digest.to_string()));
        }
        What::Symlink(target) => {
            properties.push(property(KIND, "link"));
            properties.push(property(TARGET, target));
        }
        What::Directory => properties.push(property(KIND, "directory")),
        What::Special(node) => {
            properties.push(property(KIND, "special"));
            properties.push(property(TARGET, node));
        }
    }
    let mut hashes = Vec::new();
    if let Some(print) = item.fingerprint() {
        hashes.push(sha256(print.sha256.as_bytes()));
        properties.push(property(SIZE, &print.size.to_string()));
    }
    Component {
        kind: FILE.to_owned(),
        bom_ref: Some(format!("{}:{}", item.place.name(), item.path)),
        name: item.path.clone(),
        hashes,
        properties,
        ..Component::default()
    }
}

fn component(kind: &str, name: &str, version: &str) -> Component {
    Component {
        kind: kind.to_owned(),
        name: name.to_owned(),
        version: Some(version.to_owned()).filter(|version| !version.is_empty()),
        ..Component::default()
    }
}

fn property(name: &str, value: &str) -> Property {
    Property {
        name: name.to_owned(),
        value: value.to_owned(),
    }
}

fn sha256(bytes: &[u8]) -> Hash {
    Hash {
        alg: "SHA-256".to_owned(),
        content: hex(bytes),
    }
}
