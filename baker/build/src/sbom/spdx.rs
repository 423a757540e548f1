//! SPDX 2.3 as JSON (<https://spdx.github.io/spdx-spec/v2.3/>).
//!
//! The image is the package that contains the files; each file is `EXPANDED_FROM_ARCHIVE` of the
//! Debian package that brought it. That says more than it would if the Debian packages contained
//! the files: an image holds only some files of most packages.

use serde::Serialize;
use sha1::Digest as _;

use super::{OWN_NAME, Request, hex, person, purl};
use crate::inventory::{Fingerprint, Item, Owner, PackageFacts, Place};

const NOTHING: &str = "NOASSERTION";
const IMAGE: &str = "SPDXRef-Image";
const GUEST: &str = "SPDXRef-Guest";
/// Licence of baker itself, and so of its guest program.
const OWN_LICENCE: &str = env!("CARGO_PKG_LICENSE");

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Document {
    spdx_version: &'static str,
    data_license: &'static str,
    #[serde(rename = "SPDXID")]
    id: &'static str,
    name: String,
    document_namespace: String,
    creation_info: CreationInfo,
    packages: Vec<Package>,
    files: Vec<File>,
    has_extracted_licensing_infos: Vec<ExtractedLicence>,
    relationships: Vec<Relationship>,
}

#[derive(Serialize)]
struct CreationInfo {
    created: String,
    creators: Vec<String>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Package {
    #[serde(rename = "SPDXID")]
    id: String,
    name: String,
    version_info: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    supplier: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    originator: Option<String>,
    download_location: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    package_file_name: Option<String>,
    files_analyzed: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    package_verification_code: Option<VerificationCode>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    checksums: Vec<Checksum>,
    #[serde(skip_serializing_if = "Option::is_none")]
    homepage: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    source_info: Option<String>,
    license_concluded: &'static str,
    license_declared: String,
    copyright_text: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    summary: Option<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    external_refs: Vec<ExternalRef>,
    #[serde(skip_serializing_if = "Option::is_none")]
    primary_package_purpose: Option<&'static str>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct VerificationCode {
    package_verification_code_value: String,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Checksum {
    algorithm: &'static str,
    checksum_value: String,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct ExternalRef {
    reference_category: &'static str,
    reference_type: &'static str,
    reference_locator: String,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct File {
    #[serde(rename = "SPDXID")]
    id: String,
    file_name: String,
    checksums: [Checksum; 2],
    license_concluded: &'static str,
    copyright_text: &'static str,
    comment: String,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct ExtractedLicence {
    license_id: String,
    name: String,
    extracted_text: String,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Relationship {
    spdx_element_id: String,
    relationship_type: &'static str,
    related_spdx_element: String,
}

pub(super) fn document(request: &Request<'_>) -> Document {
    let (recipe, inventory) = (request.recipe, request.inventory);
    let files: Vec<(&Item, &Fingerprint)> = inventory
        .items
        .iter()
        .filter_map(|item| Some((item, item.fingerprint()?)))
        .collect();
    let packages = inventory.packages.iter();
    let mut packages: Vec<Package> = packages.map(|facts| package(request, facts)).collect();
    packages.insert(0, image(request, &files));
    packages.push(guest(request));
    Document {
        spdx_version: "SPDX-2.3",
        data_license: "CC0-1.0",
        id: "SPDXRef-DOCUMENT",
        name: format!("{}-{}", recipe.name, recipe.version),
        document_namespace: format!("urn:uuid:{}", request.uuid("SPDX")),
        creation_info: CreationInfo {
            created: request.created(),
            creators: vec![format!("Tool: baker-{}", request.baker_version)],
        },
        relationships: relationships(request, &files),
        packages,
        files: (0..).zip(&files).map(file).collect(),
        has_extracted_licensing_infos: extracted(request),
    }
}

/// The image itself, all files in it counted (section 7.9, "Package verification code").
fn image(request: &Request<'_>, files: &[(&Item, &Fingerprint)]) -> Package {
    let mut sums: Vec<String> = files.iter().map(|(_, print)| hex(&print.sha1)).collect();
    sums.sort_unstable();
    let code = sha1::Sha1::digest(sums.concat());
    let recipe = request.recipe;
    Package {
        files_analyzed: true,
        package_verification_code: Some(VerificationCode {
            package_verification_code_value: hex(&code),
        }),
        summary: (!recipe.summary.is_empty()).then(|| recipe.summary.clone()),
        primary_package_purpose: Some("OPERATING-SYSTEM"),
        ..plain(IMAGE, &recipe.name, &recipe.version)
    }
}

fn guest(request: &Request<'_>) -> Package {
    Package {
        supplier: Some(format!("Organization: {OWN_NAME}")),
        checksums: vec![checksum("SHA256", request.guest().as_bytes())],
        license_declared: OWN_LICENCE.to_owned(),
        external_refs: vec![purl_of(purl::of_guest(request.baker_version))],
        primary_package_purpose: Some("APPLICATION"),
        ..plain(GUEST, "baker-guest", request.baker_version)
    }
}

fn package(request: &Request<'_>, facts: &PackageFacts) -> Package {
    let lock = &facts.lock;
    let (maintainer, address) = person(&facts.maintainer);
    let address = address.map_or(String::new(), |address| format!(" ({address})"));
    // People and teams stand in the same field; a team has a word for itself in its name.
    let is_team = [
        "Maintainers",
        "Team",
        "Group",
        "Developers",
        "Debian",
        "Project",
    ];
    let kind = match is_team.iter().any(|word| maintainer.contains(word)) {
        true => "Organization",
        false => "Person",
    };
    let originator = format!("{kind}: {maintainer}{address}");
    let file = lock.path.rsplit('/').next().unwrap_or_default();
    Package {
        supplier: Some("Organization: Debian".to_owned()),
        originator: (!maintainer.is_empty()).then_some(originator),
        package_file_name: Some(file.to_owned()),
        checksums: vec![checksum("SHA256", lock.sha256.as_bytes())],
        homepage: facts.homepage.clone().filter(|url| url.starts_with("http")),
        source_info: Some(format!(
            "built package from: {} {}",
            facts.source, facts.source_version
        )),
        license_declared: facts
            .licensing
            .expression
            .clone()
            .unwrap_or_else(|| NOTHING.to_owned()),
        summary: Some(facts.summary.clone()).filter(|summary| !summary.is_empty()),
        external_refs: vec![purl_of(purl::of_package(
            facts,
            &request.recipe.debian.suite,
        ))],
        ..plain(&id_of(facts), &lock.name, &lock.version)
    }
}

fn plain(id: &str, name: &str, version: &str) -> Package {
    Package {
        id: id.to_owned(),
        name: name.to_owned(),
        version_info: version.to_owned(),
        supplier: None,
        originator: None,
        download_location: NOTHING,
        package_file_name: None,
        files_analyzed: false,
        package_verification_code: None,
        checksums: Vec::new(),
        homepage: None,
        source_info: None,
        license_concluded: NOTHING,
        license_declared: NOTHING.to_owned(),
        copyright_text: NOTHING,
        summary: None,
        external_refs: Vec::new(),
        primary_package_purpose: None,
    }
}

/// Ids take letters, digits, `.` and `-`; the digest keeps them apart from each other.
fn id_of(facts: &PackageFacts) -> String {
    let plain = |c: char| {
        if c.is_ascii_alphanumeric() || matches!(c, '.' | '-') {
            c
        } else {
            '-'
        }
    };
    let name: String = facts.lock.name.chars().map(plain).collect();
    format!("SPDXRef-Package-{name}-{}", facts.lock.sha256.short())
}

fn checksum(algorithm: &'static str, bytes: &[u8]) -> Checksum {
    Checksum {
        algorithm,
        checksum_value: hex(bytes),
    }
}

fn purl_of(locator: String) -> ExternalRef {
    ExternalRef {
        reference_category: "PACKAGE-MANAGER",
        reference_type: "purl",
        reference_locator: locator,
    }
}

fn file((index, (item, print)): (usize, &(&Item, &Fingerprint))) -> File {
    let file_name = match item.place {
        Place::Root => format!(".{}", item.path),
        place => format!("./.{}/{}", place.name(), item.path.trim_start_matches('/')),
    };
    File {
        id: format!("SPDXRef-File-{index}"),
        file_name,
        checksums: [
            checksum("SHA1", &print.sha1),
            checksum("SHA256", print.sha256.as_bytes()),
        ],
        license_concluded: NOTHING,
        copyright_text: NOTHING,
        comment: format!("owner: {}", item.owner),
    }
}

fn extracted(request: &Request<'_>) -> Vec<ExtractedLicence> {
    let packages = request.inventory.packages.iter();
    let others = packages.flat_map(|facts| facts.licensing.others.clone());
    let others: std::collections::BTreeMap<_, _> = others.collect();
    others
        .into_iter()
        .map(|(license_id, (name, extracted_text))| ExtractedLicence {
            license_id,
            name,
            extracted_text,
        })
        .collect()
}

fn relationships(request: &Request<'_>, files: &[(&Item, &Fingerprint)]) -> Vec<Relationship> {
    let relation = |from: &str, kind, to: &str| Relationship {
        spdx_element_id: from.to_owned(),
        relationship_type: kind,
        related_spdx_element: to.to_owned(),
    };
    let mut all = vec![
        relation("SPDXRef-DOCUMENT", "DESCRIBES", IMAGE),
        relation(IMAGE, "CONTAINS", GUEST),
    ];
    let packages = &request.inventory.packages;
    all.extend(
        packages
            .iter()
            .map(|facts| relation(IMAGE, "CONTAINS", &id_of(facts))),
    );
    let ids: std::collections::HashMap<&str, String> = packages
        .iter()
        .map(|facts| (facts.lock.name.as_str(), id_of(facts)))
        .collect();
    for (index, (item, _)) in files.iter().enumerate() {
        let id = format!("SPDXRef-File-{index}");
        all.push(relation(IMAGE, "CONTAINS", &id));
        match &item.owner {
            Owner::Package(name) => {
                let package = ids.get(&**name);
                all.extend(package.map(|package| relation(&id, "EXPANDED_FROM_ARCHIVE", package)));
            }
            Owner::Guest => all.push(relation(&id, "EXPANDED_FROM_ARCHIVE", GUEST)),
            Owner::Recipe | Owner::Effect(_) | Owner::Implied | Owner::Nobody => {}
        }
    }
    all
}
