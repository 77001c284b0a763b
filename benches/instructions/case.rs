//! A case: what is counted, how often, and what the count is divided by.

use std::error::Error;
use std::fmt;
use std::hint::black_box;

/// Why a case could not be counted: it did not do what it is there to count.
pub(crate) type Failed = Box<dyn Error>;

/// See the module.
pub(crate) struct Case {
    name: String,
    /// Where two are given, their difference is what counts.
    sizes: Vec<u32>,
    /// By this many, for one operation.
    divide: u32,
    /// Code that is chosen by what the processor can.
    cpu: bool,
    body: Box<dyn Fn(u32) -> Result<(), Failed>>,
}

impl Case {
    /// One operation, which `body` does as often as it is told to: `rounds` times.
    pub(crate) fn new(
        name: impl Into<String>,
        rounds: u32,
        body: impl Fn(u32) -> Result<(), Failed> + 'static,
    ) -> Self {
        Self {
            name: name.into(),
            sizes: vec![rounds],
            divide: rounds,
            cpu: false,
            body: Box::new(body),
        }
    }

    /// What one more of something costs: `body` is told how many there are, and does it `rounds` times.
    pub(crate) fn one_more(
        name: impl Into<String>,
        [few, many]: [u32; 2],
        rounds: u32,
        body: impl Fn(u32) -> Result<(), Failed> + 'static,
    ) -> Self {
        Self {
            name: name.into(),
            sizes: vec![few, many],
            divide: (many - few) * rounds,
            cpu: false,
            body: Box::new(body),
        }
    }

    /// The same case, whose code is chosen by what the processor can (ciphers above all).
    pub(crate) fn by_processor(self) -> Self {
        Self { cpu: true, ..self }
    }

    /// Its name.
    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    /// Does it.
    ///
    /// # Errors
    /// It did not do what it is there to count.
    pub(crate) fn run(&self, size: u32) -> Result<(), Failed> {
        (self.body)(size)
    }
}

impl fmt::Display for Case {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            name,
            sizes,
            divide,
            cpu,
            ..
        } = self;
        write!(
            f,
            r#"{{"name": "{name}", "sizes": {sizes:?}, "divide": {divide}, "cpu": {cpu}}}"#
        )
    }
}

/// Callgrind counts within this function and what it calls, and nothing else: it is told this name.
#[inline(never)]
pub(crate) fn counted_by_callgrind<T>(work: impl FnOnce() -> T) -> T {
    black_box(work())
}

/// Counts an operation, its result's end included.
pub(crate) fn count<T>(work: impl FnOnce() -> T) {
    counted_by_callgrind(|| drop(black_box(work())));
}

/// What this processor can, of what code is chosen by.
pub(crate) fn processor() -> String {
    let mut able = Vec::new();
    #[cfg(target_arch = "x86_64")]
    {
        macro_rules! look {
            ($($name:tt),*) => { $(if is_x86_feature_detected!($name) { able.push($name); })* };
        }
        look!(
            "aes",
            "avx",
            "avx2",
            "avx512f",
            "bmi1",
            "bmi2",
            "fma",
            "pclmulqdq",
            "sha",
            "sse4.2",
            "vaes",
            "vpclmulqdq"
        );
    }
    able.insert(0, std::env::consts::ARCH);
    able.join(" ")
}
