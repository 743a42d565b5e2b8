MATCH (:SuspendedFlow {id: $run})-[:HAS]->(approver:Metadata {name: 'approver'})
      <-[:HAS]-(other:SuspendedFlow {status: 'waiting'})
RETURN other.id AS run, other.flowId AS flow
ORDER BY run
