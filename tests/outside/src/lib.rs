//! Nothing: its tests are what counts.
