//! The admin API of a node: types and services made from `proto/mstream/admin/v1/admin.proto`, for `mstreamd`,
//! `mstream` and anyone who writes a client.

/// Messages, clients and servers. The `.proto` file's comments are their documents.
#[allow(missing_docs, clippy::all, rustdoc::all, reason = "generated code")]
pub mod v1 {
    tonic::include_proto!("mstream.admin.v1");
}

/// The API's encoded file descriptors, for gRPC reflection.
pub const DESCRIPTORS: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/descriptors.bin"));
