//! What a setting is: a key with a default, a range, a text and where its default is from; and strict tables of them.
//!
//! [`settings!`] declares a struct once, and defaults, ranges, help and reference pages follow from it.
mod error;
mod key;
mod nearest;
pub mod range;

pub use error::{Checked, KeyError};
pub use key::{Key, Provenance, Settings};
pub use nearest::{did_you_mean, nearest, unknown};

use serde::{Serialize, de::DeserializeOwned};

/// Reads `table` as a `T`; a key that `T` (with `deny_unknown_fields`) does not have and a value of the wrong type are
/// errors.
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
        .expect("settings are plain structs of numbers, words and lists, which TOML can hold")
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
        $(#[$meta:meta])*
        $vis:vis struct $Name:ident {
            $(
                $(#[doc = $doc:literal])+
                $field_vis:vis $field:ident: $type:ty = $default:expr, $from:ident $(, $range:ident $(($($bound:expr),+))?)?;
            )*
        }
    ) => {
        $(#[$meta])*
        #[derive(Clone, Debug, PartialEq, ::serde::Serialize, ::serde::Deserialize)]
        #[serde(deny_unknown_fields, default)]
        $vis struct $Name {
            $($(#[doc = $doc])+ $field_vis $field: $type,)*
        }

        impl Default for $Name {
            fn default() -> Self {
                Self { $($field: $default,)* }
            }
        }

        impl $crate::Settings for $Name {
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
