//! The bridge to bridge.h. Every function throws C++ exceptions as `Err`.

#[cxx::bridge(namespace = "heterodyne")]
pub mod bridge {
    unsafe extern "C++" {
        include!("bridge.h");

        type Rng;

        fn autocast_format(device: u8) -> Result<u8>;
        fn autocast_set(device: u8, format: u8) -> Result<()>;
        fn autocast_enter();
        fn autocast_leave();

        fn tf32() -> Result<u8>;
        fn set_tf32(parts: u8) -> Result<()>;

        fn deterministic() -> bool;
        fn set_deterministic(required: bool) -> Result<()>;

        fn set_variable(name: &str, value: &str) -> Result<()>;

        fn grad_mode() -> bool;
        fn grad_mode_set(enabled: bool);

        fn peak_device_bytes() -> Result<u64>;

        unsafe fn channels_last(x: usize) -> Result<usize>;
        unsafe fn is_channels_last(x: usize) -> bool;

        fn rng_new(seed: u64) -> UniquePtr<Rng>;
        fn rng_global(device: u8) -> Result<UniquePtr<Rng>>;
        fn rng_seed(rng: &Rng, seed: u64) -> Result<()>;
        fn rng_state(rng: &Rng) -> Result<usize>;
        unsafe fn rng_set_state(rng: &Rng, state: usize) -> Result<()>;
        unsafe fn rng_normal(rng: &Rng, x: usize, mean: f64, std: f64) -> Result<()>;
        unsafe fn rng_uniform(rng: &Rng, x: usize, low: f64, high: f64) -> Result<()>;

        unsafe fn sgd_step(
            params: &[usize],
            momenta: &[usize],
            found_inf: usize,
            lr: f64,
            lr_scalar: usize,
            momentum: f64,
            weight_decay: f64,
            nesterov: bool,
        ) -> Result<()>;
        unsafe fn adamw_step(
            params: &[usize],
            exp_avgs: &[usize],
            exp_avg_sqs: &[usize],
            steps: &[usize],
            found_inf: usize,
            lr: f64,
            lr_scalar: usize,
            beta1: f64,
            beta2: f64,
            weight_decay: f64,
            eps: f64,
        ) -> Result<()>;
        unsafe fn grad_norm(params: &[usize]) -> Result<usize>;
        unsafe fn grad_scale(params: &[usize], factor: usize) -> Result<()>;
        unsafe fn grad_clear(params: &[usize]) -> Result<()>;
        unsafe fn lerp(targets: &[usize], sources: &[usize], weight: f64) -> Result<()>;
    }
}
