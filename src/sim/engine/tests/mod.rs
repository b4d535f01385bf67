//! Property tests of the engine: what must hold whatever comes in whatever order.
