/// Sums over the rows of a batch. All fields are Double.
package protocol RowSums: BitwiseCopyable {
  /// All sums 0.
  init()
  /// Adds the sums of other rows.
  mutating func add(_ other: Self)
}

extension RowSums {
  /// Sums over ranks.
  mutating func allReduce(_ context: Context) {
    withUnsafeMutableBytes(of: &self) {
      context.allReduce($0.bindMemory(to: Double.self), on: .statistics, "loss")
    }
  }
}

extension Context {
  /// Runs `body` once for each row on all threads and adds the results in the order of the rows, so that the number of
  /// threads does not change a bit.
  func sum<Sums: RowSums>(rows: Int, _ body: (_ row: Int) -> Sums) -> Sums {
    scratch { arena in
      let each = arena.array(of: Sums.self, count: max(1, rows))
      var sum = Sums()
      run(rows) { row, _ in each[row] = body(row) }
      run(1) { _, _ in for row in 0..<rows { sum.add(each[row]) } }
      return sum
    }
  }
}
