import Files

/// Writes `report.html`: one self-contained page.
package enum Report {
  package static func html(_ content: ReportContent) -> String { ReportPage(content: content).html }

  /// Written whole, so that an open page never reads half a file.
  package static func write(_ content: ReportContent, to path: String) throws(ReportError) {
    do { try AtomicFile.write(html(content), to: path) } catch { throw ReportError(description: error.description) }
  }
}

/// A report that could not be written.
package struct ReportError: Error, CustomStringConvertible { package let description: String }
