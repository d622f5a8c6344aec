import ArgumentParser

/// A number of bytes, written as `500MB`, `1GiB` or `65536`.
struct ByteSize: ExpressibleByArgument {
  let bytes: Int
  let defaultValueDescription: String

  init?(argument: String) {
    let number = argument.prefix { $0.isNumber || $0 == "." }
    let units: [String: Double] = [
      "": 1, "b": 1, "kb": 1e3, "mb": 1e6, "gb": 1e9, "tb": 1e12, "k": 0x1p10, "m": 0x1p20, "g": 0x1p30, "t": 0x1p40,
      "kib": 0x1p10, "mib": 0x1p20, "gib": 0x1p30, "tib": 0x1p40,
    ]
    let unit = argument.dropFirst(number.count).lowercased()
    guard let value = Double(number), let factor = units[unit], value * factor >= 1, value * factor < 1e18 else {
      return nil
    }
    bytes = Int(value * factor)
    defaultValueDescription = argument
  }
}

/// A fraction above 0 and below 1, written as `10%` or `0.1`.
struct Share: ExpressibleByArgument {
  let fraction: Double

  init?(argument: String) {
    let isPercent = argument.hasSuffix("%")
    guard let value = Double(isPercent ? String(argument.dropLast()) : argument) else { return nil }
    fraction = isPercent ? value / 100 : value
    guard fraction > 0, fraction < 1 else { return nil }
  }
}
