/**
 * Numbers as people read them: one function a unit, always with the unit, never with more digits than carry meaning.
 * Everything that prints a figure for a person uses these; JSON carries the plain numbers.
 */

/** 145123 -> "145,123". */
export const formatCount = (value: number): string =>
  Math.round(value)
    .toString()
    .replace(/\B(?=(\d{3})+(?!\d))/g, ",");

/** -1234 -> "-1,234", 1234 -> "+1,234", 0 -> "0". */
export const formatDifference = (value: number): string =>
  Math.round(value) === 0 ? "0" : `${value < 0 ? "-" : "+"}${formatCount(Math.abs(value))}`;

const BYTE_UNITS = ["B", "KiB", "MiB", "GiB", "TiB"] as const;

/** 1536 -> "1.50 KiB". */
export function formatBytes(bytes: number): string {
  let scaled = bytes;
  let unit = 0;
  while (scaled >= 1024 && unit + 1 < BYTE_UNITS.length) {
    scaled /= 1024;
    unit++;
  }
  return `${unit === 0 ? formatCount(scaled) : threeDigits(scaled)} ${BYTE_UNITS[unit]}`;
}

/** 0.00321 -> "3.21 ms". */
export function formatSeconds(seconds: number): string {
  if (seconds >= 120) return `${Math.floor(seconds / 60)} min ${Math.floor(seconds % 60)} s`;
  if (seconds >= 1) return `${threeDigits(seconds)} s`;
  if (seconds >= 1e-3) return `${threeDigits(seconds * 1e3)} ms`;
  if (seconds >= 1e-6) return `${threeDigits(seconds * 1e6)} us`;
  return `${threeDigits(seconds * 1e9)} ns`;
}

/** 0.7312 -> "73.1 %". */
export const formatShare = (share: number): string => `${(share * 100).toFixed(1)} %`;

/** 2.1e9 -> "2.10 G"; for counts of operations, with the unit to follow. */
export function formatScaled(value: number): string {
  for (const [scale, prefix] of [
    [1e12, "T"],
    [1e9, "G"],
    [1e6, "M"],
    [1e3, "k"],
  ] as const) {
    if (value >= scale) return `${threeDigits(value / scale)} ${prefix}`;
  }
  return `${formatCount(value)} `;
}

/** Whole femtojoules, as energies are kept: 4.8e13 -> "48.0 mJ". */
export function formatEnergy(femtojoules: number): string {
  for (const [scale, unit] of [
    [1e15, "J"],
    [1e12, "mJ"],
    [1e9, "uJ"],
    [1e6, "nJ"],
    [1e3, "pJ"],
  ] as const) {
    if (femtojoules >= scale) return `${threeDigits(femtojoules / scale)} ${unit}`;
  }
  return `${formatCount(femtojoules)} fJ`;
}

/** Errors and other small ratios: "1.23e-3", and "0" for exactly zero. */
export const formatError = (value: number): string => (value === 0 ? "0" : value.toExponential(2));

function threeDigits(value: number): string {
  if (value >= 100) return formatCount(value);
  return value >= 10 ? value.toFixed(1) : value.toFixed(2);
}
