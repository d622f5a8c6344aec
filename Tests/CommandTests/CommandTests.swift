import Testing

/// The built program, as a user runs it: alone and under a real `mpirun`, one job after the other.
@Suite(.serialized) struct CommandTests {}
