/// Weights in the forms that kernels want; owned by a `NetworkState`.
package final class PreparedWeights {
  package init() {}
}
