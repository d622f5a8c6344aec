import Foundation

// Numbers as people read them.

/// A share in per cent with two decimals: `87.12`.
package func percent(_ share: Double) -> String { fixed(share * 100, 2) }

/// A number with a fixed count of decimals and no exponent: `3.10`.
package func fixed(_ value: Double, _ decimals: Int) -> String {
  guard value.isFinite, abs(value) < 1e15 else { return "\(value)" }
  var power = 1.0
  for _ in 0..<decimals { power *= 10 }
  let whole = Int((abs(value) * power).rounded())
  let unit = Int(power)
  let sign = value < 0 && whole > 0 ? "-" : ""
  if decimals == 0 { return "\(sign)\(whole)" }
  let rest = "\(whole % unit)"
  return "\(sign)\(whole / unit).\(String(repeating: "0", count: decimals - rest.count))\(rest)"
}

/// Four significant digits without trailing zeros: `5.432`, `0.3`, `1.2e-05`.
package func significant(_ value: Double) -> String {
  guard value.isFinite else { return "\(value)" }
  if value == 0 { return "0" }
  let digits = Int(floor(log10(abs(value))))
  if digits < -4 || digits > 6 {
    let power = pow(10, Double(digits))
    let mantissa = (value / power * 1000).rounded() / 1000
    return "\(trimmed(fixed(mantissa, 3)))e\(digits)"
  }
  return trimmed(fixed(value, max(0, 3 - digits)))
}

private func trimmed(_ text: String) -> String {
  guard text.contains(".") else { return text }
  var text = text
  while text.last == "0" { text.removeLast() }
  if text.last == "." { text.removeLast() }
  return text
}

/// A count with its thousands set apart: `12,000`.
package func grouped(_ count: Int) -> String {
  var text = ""
  var digits = String(count)
  while digits.count > 3 {
    text = "," + digits.suffix(3) + text
    digits.removeLast(3)
  }
  return digits + text
}

/// A time in its largest units: `45 s`, `12 min`, `3 h 05 min`, `2 d 4 h`.
package func duration(_ seconds: Double) -> String {
  guard seconds.isFinite, seconds < 1e9 else { return "?" }
  let s = max(0, Int(seconds.rounded()))
  if s < 100 { return "\(s) s" }
  let minutes = (s + 30) / 60
  if minutes < 100 { return "\(minutes) min" }
  let hours = minutes / 60
  let rest = minutes % 60
  if hours < 48 { return "\(hours) h \(rest < 10 ? "0" : "")\(rest) min" }
  return "\(hours / 24) d \(hours % 24) h"
}

/// A number of bytes in its largest unit: `1.5 GiB`.
package func byteText(_ count: Int) -> String {
  let units = ["bytes", "KiB", "MiB", "GiB", "TiB", "PiB"]
  var value = Double(count)
  var unit = 0
  while value >= 1024, unit < units.count - 1 {
    value /= 1024
    unit += 1
  }
  return unit == 0 ? "\(count) bytes" : "\((value * 10).rounded() / 10) \(units[unit])"
}

/// Bytes as MiB, rounded up.
package func megabytes(_ bytes: Int) -> Int { (bytes + (1 << 20) - 1) >> 20 }
