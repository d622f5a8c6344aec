/// The recipes that the binary carries, by name. To add one, write its file and its row.
package enum BuiltInRecipes {
  package static let all: [String: String] = [:]
}
