//! Settings: keys with a default, a range, a description and the default's provenance, in tables that are read
//! strictly.
//!
//! [`settings!`] declares a struct once; defaults, ranges, help and reference pages are derived from it.
mod error;
mod key;
mod nearest;
pub mod range;
mod registry;

pub use error::{Checked, KeyError};
pub use key::{Key, Provenance, Settings};
pub use nearest::{did_you_mean, nearest};
pub use registry::{Named, Registry};

use serde::{Serialize, de::DeserializeOwned};

/// Reads `table` as a `T`. Unknown keys (`T` needs `deny_unknown_fields`) and values of the wrong type are errors.
pub fn parse<T: DeserializeOwned>(table: &toml::Table) -> Result<T, KeyError> {
    serde_path_to_error::deserialize(toml::Value::Table(table.clone())).map_err(|e| {
        let key = e.path().to_string();
        let message = e.into_inner().message().to_owned();
        KeyError::new(if key == "." { String::new() } else { key }, message)
    })
}

/// The settings as a table.
#[must_use]
pub fn table(settings: &impl Serialize) -> toml::Table {
    toml::Table::try_from(settings)
        .expect("settings are plain structs of numbers, strings and lists, which TOML can represent")
}

/// Declares a struct of settings. Each key is written once: its text, its type, its default, where the default is from
/// ([`Provenance`]), and the function of [`range`] that its value has to pass.
///
/// ```
/// heterodyne_settings::settings! {
///     /// Knowledge distillation.
///     pub struct Kd {
///         /// Temperature of both softmaxes.
///         temperature: f64 = 1.0, ThirdParty, positive;
///         /// Label smoothing.
///         smoothing: f64 = 0.0, Published, between(0.0, 0.999);
///     }
/// }
/// # use heterodyne_settings::Settings;
/// let kd = Kd::read(&"temperature = 4".parse().unwrap()).unwrap();
/// assert_eq!(kd.temperature, 4.0);
/// assert_eq!(Kd::read(&"temperature = 0".parse().unwrap()).unwrap_err().key, "temperature");
/// assert_eq!(Kd::KEYS[1].doc(), "Label smoothing.");
/// ```
#[macro_export]
macro_rules! settings {
    (
        $(#[doc = $about:literal])*
        $vis:vis struct $Name:ident {
            $(
                $(#[doc = $doc:literal])+
                $(#[serde($($serde:tt)*)])?
                $field_vis:vis $field:ident: $type:ty = $default:expr, $from:ident
                    $(, $range:ident $(($($bound:expr),+))?)?;
            )*
        }
    ) => {
        $(#[doc = $about])*
        #[derive(Clone, Debug, PartialEq, ::serde::Serialize, ::serde::Deserialize)]
        #[serde(deny_unknown_fields, default)]
        $vis struct $Name {
            $($(#[doc = $doc])+ $(#[serde($($serde)*)])? $field_vis $field: $type,)*
        }

        impl Default for $Name {
            fn default() -> Self {
                Self { $($field: $default,)* }
            }
        }

        impl $crate::Settings for $Name {
            const ABOUT: &'static str = concat!($($about, "\n"),*);
            const KEYS: &'static [$crate::Key] = &[
                $($crate::Key::new(stringify!($field), concat!($($doc),+), $crate::Provenance::$from),)*
            ];

            fn in_range(&self) -> $crate::Checked {
                $($($crate::range::$range(stringify!($field), self.$field $($(, $bound)+)?)?;)?)*
                Ok(())
            }
        }
    };
}

/// Declares an enum of words that a key can have, in snake case: `choice! { enum Filter { Learnable, AveragePool } }`
/// reads `"learnable"` and `"average_pool"`.
#[macro_export]
macro_rules! choice {
    ($(#[$meta:meta])* $vis:vis enum $Name:ident { $($(#[$doc:meta])* $Variant:ident),+ $(,)? }) => {
        $(#[$meta])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, ::serde::Serialize, ::serde::Deserialize)]
        #[serde(rename_all = "snake_case")]
        $vis enum $Name {
            $($(#[$doc])* $Variant,)+
        }
    };
}
