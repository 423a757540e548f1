//! Targets on the real servers of [`loopback`].

use std::path::Path;

use super::fixture::skip;
use crate::target::{BucketAccess, BucketTarget, Credentials, RegistryTarget, Secret, TargetError};

// The servers of the integration tests: a crate of this room cannot depend on theirs.
#[path = "../../../../tests/src/servers.rs"]
mod loopback;

#[path = "../../../../tests/src/cache_server.rs"]
mod cache_server;

pub(super) use cache_server::{CacheServer, Mood};
pub(super) use loopback::{BUCKET, PASSWORD, Server, USER};

/// Debian's registry; none, loudly, where it is not installed.
pub(super) fn registry() -> Option<Server> {
    or_skip(Server::registry())
}

/// moto's S3; none, loudly, without it.
pub(super) fn bucket() -> Option<Server> {
    or_skip(Server::bucket())
}

/// nginx that takes files; none, loudly, without it.
pub(super) fn webdav() -> Option<Server> {
    or_skip(Server::webdav())
}

fn or_skip(server: Result<Server, String>) -> Option<Server> {
    server.map_err(|reason| skip(&reason)).ok()
}

/// The registry at `port` with the right password.
pub(super) fn registry_at(port: u16, path: &str, authority: &Path) -> RegistryTarget {
    let credentials = Credentials::new(USER.to_owned(), PASSWORD.to_owned());
    registry_as(port, path, Some(credentials), Some(authority)).unwrap()
}

pub(super) fn registry_as(
    port: u16,
    path: &str,
    credentials: Option<Credentials>,
    authority: Option<&Path>,
) -> Result<RegistryTarget, TargetError> {
    RegistryTarget::new(&format!("localhost:{port}"), path, credentials, authority)
}

/// The bucket of the server at `port`.
pub(super) fn bucket_at(port: u16, prefix: &str) -> BucketTarget {
    BucketTarget::new(BUCKET, prefix, &bucket_access(port), None).unwrap()
}

/// The way into the buckets of the server at `port`.
pub(super) fn bucket_access(port: u16) -> BucketAccess {
    BucketAccess {
        endpoint: Some(format!("http://127.0.0.1:{port}")),
        region: None,
        key_id: Some(USER.to_owned()),
        secret: Some(Secret::new(PASSWORD.to_owned())),
        token: None,
    }
}
