import Foundation

/// Writes `report.html`: one self-contained page.
package enum Report {
  package static func html(_ content: ReportContent) -> String { ReportPage(content: content).html }

  /// Written aside and renamed, so that an open page never reads half a file.
  package static func write(_ content: ReportContent, to path: String) throws(ReportError) {
    let aside = path + ".new"
    do { try Data(html(content).utf8).write(to: URL(fileURLWithPath: aside)) } catch {
      throw ReportError(description: "cannot write the report \(aside): \(error.localizedDescription)")
    }
    guard rename(aside, path) == 0 else {
      throw ReportError(description: "cannot write the report \(path): \(String(cString: strerror(errno)))")
    }
  }
}

/// A report that could not be written.
package struct ReportError: Error, CustomStringConvertible { package let description: String }
