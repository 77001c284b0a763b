//! Fuzz targets for every parser, and a stable-toolchain smoke run of them.
