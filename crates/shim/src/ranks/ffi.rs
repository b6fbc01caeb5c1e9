//! The bridge to ranks.h. Every function throws C++ exceptions as `Err`.

#[cxx::bridge(namespace = "heterodyne::ranks")]
pub mod bridge {
    unsafe extern "C++" {
        include!("ranks/ranks.h");

        type Group;
        type Message;
        type Reducer;

        fn connect(
            host: &str,
            port: u16,
            serves: bool,
            prefix: &str,
            rank: i32,
            size: i32,
            timeout_ms: u64,
            cuda: bool,
        ) -> Result<UniquePtr<Group>>;

        unsafe fn all_reduce(self: &Group, x: usize) -> Result<()>;
        unsafe fn broadcast(self: &Group, tensors: &[usize]) -> Result<()>;
        unsafe fn gather(self: &Group, rows: usize) -> Result<usize>;
        unsafe fn sum(self: &Group, x: usize) -> Result<usize>;
        fn send(self: &Group, text: i32) -> Result<UniquePtr<Message>>;
        fn received(self: &Message) -> Result<Vec<i32>>;
        fn put(self: &Group, key: &str, value: &str) -> Result<()>;
        fn has(self: &Group, key: &str) -> Result<bool>;
        fn get(self: &Group, key: &str) -> Result<String>;

        unsafe fn reducer(group: &Group, parameters: &[usize], half: bool) -> Result<UniquePtr<Reducer>>;
        unsafe fn prepare(self: &Reducer, total: usize) -> Result<()>;
    }
}
