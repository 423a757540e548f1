//! Text dump, round trip, foreign judges, pinned digests, properties, codecs; and the large cases.

mod fixtures;
mod judges;
mod large;
mod packing;
mod properties;
mod snapshot;
