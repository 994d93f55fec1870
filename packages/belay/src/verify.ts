// Verification of a ledger, for anyone who holds its segment files. Imports core only: an auditor
// can read and run it without the rest of Belay.
//
//   const report = await verifySegments(files); // files: { name, bytes } in the order of their names
//   if (!report.ok) console.error(report.problems);

export {
  type AuditOptions,
  type Problem,
  type ProblemKind,
  type Report,
  type SegmentFile,
  verifySegments,
} from './core/audit.ts';
export type { Entry } from './core/entry.ts';
