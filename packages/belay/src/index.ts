// Belay as a library: what `belay run` does, for a program that starts agents itself.
//
//   const { status, summary } = await launch({ home: findHome(process.env), ...options });

export { findHome, type Home } from './control/home.ts';
export { type LaunchEnd, type LaunchOptions, launch } from './control/launch.ts';
export type { RunSummary } from './control/protocol.ts';
export { BelayError, type ErrorCode } from './core/errors.ts';
export { exitCodeOf } from './core/exit.ts';
