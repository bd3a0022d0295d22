//! Which rule of which route takes a request.
