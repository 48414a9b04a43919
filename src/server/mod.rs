//! Puts the server together from its configuration, serves it, and takes it down again.
