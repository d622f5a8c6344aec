import Testing

/// The built program, as a user runs it: alone and under a real `mpirun`, one job after the other.
@Suite(.serialized) struct CommandTests {}

/// Commands that answer within seconds: help, refusals, exchange. They run beside `CommandTests`, one after the other,
/// so that the start of a job does not leave a core idle.
@Suite(.serialized) struct ShortCommandTests {}
