//! The bridge to trace.h and package.h.

#[cxx::bridge(namespace = "heterodyne::script")]
pub mod bridge {
    /// The kind of a value in a program.
    #[derive(Debug)]
    enum Sort {
        /// A tensor that a step returns, or the images.
        Computed,
        /// A tensor of the network, or a constant.
        Held,
        Int,
        Real,
        Text,
        Nothing,
        Other,
    }

    #[derive(Debug)]
    struct Value {
        sort: Sort,
        integer: i64,
        real: f64,
        text: String,
        sizes: Vec<i64>,
        tensor: usize,
    }

    #[derive(Debug)]
    struct Step {
        operation: String,
        inputs: Vec<usize>,
        outputs: Vec<usize>,
    }

    #[derive(Debug)]
    struct Program {
        values: Vec<Value>,
        steps: Vec<Step>,
        output: usize,
    }

    struct Named {
        name: String,
        tensor: usize,
    }

    unsafe extern "C++" {
        include!("script/trace.h");
        include!("script/package.h");

        type Trace;

        unsafe fn trace_begin(
            names: &[String],
            tensors: &[usize],
            trained: &[bool],
            x: usize,
        ) -> Result<UniquePtr<Trace>>;
        fn trace_abandon();
        unsafe fn finish(self: Pin<&mut Trace>, y: usize) -> Result<()>;
        fn program(self: &Trace) -> Result<Program>;
        fn free_batch(self: Pin<&mut Trace>, values: &[usize], factors: &[i64]) -> Result<()>;
        fn save(self: Pin<&mut Trace>, about: &str) -> Result<UniquePtr<CxxString>>;

        type Package;

        fn load_torchscript(path: &str, device: u8) -> Result<UniquePtr<Package>>;
        fn load_compiled(path: &str, device: u8) -> Result<UniquePtr<Package>>;
        fn compiled_for(path: &str) -> Result<String>;
        fn about(self: &Package) -> Result<String>;
        unsafe fn run(self: Pin<&mut Package>, x: usize) -> Result<Vec<Named>>;
    }
}
