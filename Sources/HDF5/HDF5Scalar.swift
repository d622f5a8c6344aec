import CHDF5

/// A number type that a dataset can hold. `Int` is stored as 64 bits.
package protocol HDF5Scalar: BitwiseCopyable, Sendable {
  static var hdf5Type: HDF5Type { get }
  static var zero: Self { get }
}

/// Type of a dataset's elements. All are stored little-endian.
package enum HDF5Type: Int32, Sendable, CustomStringConvertible {
  case float = 0
  case double, int8, uint8, uint16, int32, uint32, int64, uint64, text, other

  /// The type in words, for errors.
  package var description: String {
    switch self {
    case .float: "32-bit floats"
    case .double: "64-bit floats"
    case .int8: "8-bit integers"
    case .uint8: "unsigned 8-bit integers"
    case .uint16: "unsigned 16-bit integers"
    case .int32: "32-bit integers"
    case .uint32: "unsigned 32-bit integers"
    case .int64: "64-bit integers"
    case .uint64: "unsigned 64-bit integers"
    case .text: "fixed-length strings"
    case .other: "something else"
    }
  }
}

extension Float: HDF5Scalar { package static var hdf5Type: HDF5Type { .float } }
extension Double: HDF5Scalar { package static var hdf5Type: HDF5Type { .double } }
extension Int8: HDF5Scalar { package static var hdf5Type: HDF5Type { .int8 } }
extension UInt8: HDF5Scalar { package static var hdf5Type: HDF5Type { .uint8 } }
extension UInt16: HDF5Scalar { package static var hdf5Type: HDF5Type { .uint16 } }
extension Int32: HDF5Scalar { package static var hdf5Type: HDF5Type { .int32 } }
extension UInt32: HDF5Scalar { package static var hdf5Type: HDF5Type { .uint32 } }
extension Int64: HDF5Scalar { package static var hdf5Type: HDF5Type { .int64 } }
extension Int: HDF5Scalar { package static var hdf5Type: HDF5Type { .int64 } }
extension UInt64: HDF5Scalar { package static var hdf5Type: HDF5Type { .uint64 } }

/// The value of an attribute. Lists have one dimension.
package enum HDF5Attribute: Equatable, Sendable {
  case integer(Int64)
  case real(Double)
  case text(String)
  case texts([String])
  case reals([Double])
}
