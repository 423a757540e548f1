//! Text dump, round trip, foreign judges, pinned digests, properties; and the large cases.

mod fixtures;
mod judges;
mod large;
mod properties;
mod snapshot;
