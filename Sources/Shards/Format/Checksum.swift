import CZlib

/// CRC-32 as zlib and gzip compute it.
package func checksum(_ bytes: UnsafeRawBufferPointer) -> UInt32 { czlib_crc32(0, bytes.baseAddress, bytes.count) }
