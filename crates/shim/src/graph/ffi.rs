//! The bridge to graph.h. Every function throws C++ exceptions as `Err`.

#[cxx::bridge(namespace = "heterodyne::graph")]
pub mod bridge {
    unsafe extern "C++" {
        include!("graph/graph.h");

        type OwnStream;
        type Pool;
        type Graph;

        fn own_stream() -> Result<UniquePtr<OwnStream>>;
        fn pool() -> Result<UniquePtr<Pool>>;
        fn graph() -> Result<UniquePtr<Graph>>;

        fn begin(self: Pin<&mut Graph>, pool: &Pool) -> Result<()>;
        fn end(self: Pin<&mut Graph>) -> Result<()>;
        fn launch(self: &Graph) -> Result<()>;
    }
}
